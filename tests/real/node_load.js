// node_load.js DIRECTORY WORKERS: workers hash, parse and write files, while they and the main thread start
// processes. What is printed is the same in each run.
'use strict';
const { Worker, isMainThread, parentPort, threadId, workerData } = require('worker_threads');
const { exec, execFile, execFileSync, fork, spawn, spawnSync } = require('child_process');
const crypto = require('crypto');
const fs = require('fs');
const path = require('path');
const zlib = require('zlib');
const { promisify } = require('util');

const WORKERS = Number(process.argv[3]);
const ROUNDS = 10;

// On libuv's own threads, and on this one.
async function compute(number, directory) {
    const key = await promisify(crypto.pbkdf2)(`key ${number}`, 'salt', 2000, 32, 'sha256');
    const packed = await promisify(zlib.deflate)(Buffer.alloc(100000, number));
    const file = path.join(directory, `node-${threadId}-${number}`);
    await fs.promises.writeFile(file, packed);
    const back = await promisify(zlib.inflate)(await fs.promises.readFile(file));
    const text = JSON.stringify({ squares: Array.from({ length: 2000 }, (_, i) => i * i + back[0]) });
    return crypto.createHash('sha256').update(key).update(JSON.stringify(JSON.parse(text))).digest('hex');
}

function ended(child) {
    return new Promise((resolve, reject) => {
        child.on('error', reject);
        child.on('exit', (code, signal) => resolve(`${code} ${signal}`));
    });
}

function answered(child, question) {
    return new Promise((resolve, reject) => {
        child.on('error', reject);
        child.on('message', resolve);
        child.send(question);
    });
}

async function echo(text) {
    const child = spawn('cat', { stdio: ['pipe', 'pipe', 'inherit'] });
    let back = '';
    child.stdout.on('data', (data) => { back += data; });
    child.stdin.end(text);
    await new Promise((resolve) => child.on('close', resolve));
    return back;
}

async function work() {
    const { who, directory } = workerData;
    const results = [];
    for (let round = 0; round < ROUNDS; round++) {
        const number = who * ROUNDS + round;
        const sum = await compute(number, directory);
        const [said, copied] = await Promise.all([
            promisify(execFile)('echo', ['worker', String(number)]), echo(sum)]);
        const code = spawnSync('sh', ['-c', `exit ${number}`]).status;
        results.push(`${said.stdout.trim()} ${code} ${copied === sum} ${sum}`);
    }
    parentPort.postMessage(results);
}

async function lead(directory) {
    const workers = [];
    for (let who = 0; who < WORKERS; who++) {
        const worker = new Worker(__filename, { workerData: { who, directory }, argv: [directory, process.argv[3]] });
        workers.push(new Promise((resolve, reject) => {
            worker.on('error', reject);
            worker.on('message', resolve);
        }));
    }
    const lines = [];
    for (let i = 0; i < 20; i++) { // with the workers
        const shell = promisify(exec)(`printf %s ${i}; exit 0`);
        await compute(i, directory);
        lines.push(`main ${execFileSync('echo', [String(i)]).toString().trim()} ${(await shell).stdout}`);
    }
    for (let i = 0; i < 4; i++) {
        const child = fork(__filename, ['child']);
        const end = ended(child);
        const answer = await answered(child, { number: i });
        if (i % 2 === 1) {
            child.kill('SIGKILL');
        } else {
            child.disconnect();
        }
        lines.push(`fork ${answer.square} ${await end}`);
    }
    const killed = 20;
    const ends = [];
    for (let i = 0; i < killed; i++) {
        const child = spawn('sleep', ['1000']);
        ends.push(ended(child));
        child.kill();
    }
    lines.push(`killed ${[...new Set(await Promise.all(ends))]}`);
    for (const results of await Promise.all(workers)) {
        lines.push(...results);
    }
    console.log(lines.join('\n'));
    console.log(`done: ${WORKERS} workers, ${WORKERS * ROUNDS * 3 + 20 * 2 + 4 + killed} processes`);
}

if (process.argv[2] === 'child') {
    process.on('message', ({ number }) => process.send({ square: number * number }));
} else if (isMainThread) {
    lead(process.argv[2]).catch((error) => {
        console.error(error);
        process.exit(1);
    });
} else {
    work();
}
