import java.io.BufferedReader;
import java.io.File;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;

/** Threads start processes, while others allocate and run into null pointers. Each run prints the same. */
public final class Load {
    private static final int THREADS = 4;
    private static final int PROCESSES = 20;
    private static final int NULLS = 1000;
    private static final AtomicBoolean stop = new AtomicBoolean();
    private static final AtomicInteger nulls = new AtomicInteger();

    private static final class Box {
        int value = 1;
    }

    private static final Box[] boxes = new Box[2]; // all null

    private static void allocate() {
        List<byte[]> kept = new ArrayList<>();
        while (!stop.get()) {
            kept.add(new byte[10_000]);
            if (kept.size() > 500) {
                kept.clear();
                Thread.yield();
            }
        }
    }

    private static void hitNulls() {
        for (int i = 0; i < NULLS; i++) {
            try {
                boxes[i % 2].value++;
            } catch (NullPointerException e) {
                nulls.incrementAndGet();
            }
        }
    }

    private static String runProcess(int who, int number) throws Exception {
        String command = "read x; echo \"$x $GREETING $(pwd)\"; exit " + number % 7;
        ProcessBuilder builder = new ProcessBuilder("sh", "-c", command).redirectErrorStream(true);
        builder.directory(new File("/"));
        builder.environment().put("GREETING", "hello " + who);
        Process process = builder.start();
        try (OutputStream to = process.getOutputStream()) {
            to.write(String.format("%d-%05d%n", who, number).getBytes());
        }
        try (BufferedReader from = new BufferedReader(new InputStreamReader(process.getInputStream()))) {
            String line = from.readLine();
            return line + " " + process.waitFor();
        }
    }

    private static List<String> runProcesses(int who) throws Exception {
        List<String> lines = new ArrayList<>();
        for (int i = 0; i < PROCESSES; i++) {
            lines.add(runProcess(who, i));
            Process sleeper = i == 0 ? new ProcessBuilder("true").start() : null;
            if (sleeper != null && !sleeper.waitFor(100, TimeUnit.SECONDS)) {
                lines.add("true does not end");
            }
        }
        hitNulls();
        return lines;
    }

    public static void main(String[] arguments) throws Exception {
        Thread[] allocators = {new Thread(Load::allocate), new Thread(Load::allocate)};
        for (Thread thread : allocators) {
            thread.start();
        }
        ExecutorService pool = Executors.newFixedThreadPool(THREADS);
        List<Future<List<String>>> results = new ArrayList<>();
        for (int who = 0; who < THREADS; who++) {
            final int number = who;
            results.add(pool.submit(() -> runProcesses(number)));
        }
        for (Future<List<String>> result : results) {
            result.get().forEach(System.out::println);
        }
        pool.shutdown();
        stop.set(true);
        for (Thread thread : allocators) {
            thread.join();
        }
        System.gc();
        System.out.printf("done: %d threads, %d processes, %d null pointers%n", THREADS,
            THREADS * (PROCESSES + 1), nulls.get());
    }
}
