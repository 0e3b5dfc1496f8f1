"""look.py FOLDER: opens the pages in FOLDER in a browser and checks that they show what the events say.

Beside each NAME.html lies NAME.json, what jq counted in the events. Prints "ok    NAME" and "FAIL  NAME" lines.
"""

import json
import os
import sys
import time

import browser

folder = sys.argv[1]
failures = 0


def check(name, good, seen=""):
    global failures
    failures += not good
    print(("ok    " if good else "FAIL  ") + name + (f": saw {seen!r}" if not good and seen != "" else ""), flush=True)


def path(name):
    return os.path.join(folder, name)


def counts(name):
    with open(path(name + ".json")) as file:
        return json.load(file)


def open_page(page, name, fragment=""):
    page.open(path(name + ".html"), fragment)
    return counts(name)


def window(page):
    """The time shown, in us."""
    return page.run("(d => [Number(d.from), Number(d.to)])(document.querySelector('#rows').dataset)")


def span(page):
    start, end = window(page)
    return end - start


def near(a, b, part=0.01):
    return abs(a - b) <= part * max(abs(a), abs(b))


def choose(page, selector, value):
    """Puts a value into a field, as typing or choosing does."""
    page.run(f"""(node => {{
        node.value = {json.dumps(value)};
        node.dispatchEvent(new Event("input"));
        node.dispatchEvent(new Event("change"));
    }})(document.querySelector({json.dumps(selector)}))""")


def totals(page, name):
    """The totals, the rows, and the locks by how often they were inherited."""
    want = counts(name)
    keys = ("processes", "forks", "inherited", "forced", "deadlocks", "stuck")
    shown = {key: page.text(f"#total-{key} b") for key in keys}
    check(f"{name}: the totals are those of the events", shown == {key: str(want[key]) for key in shown}, shown)
    worst = want["worst"]
    text = f"{worst} µs" if worst < 1000 else f"{worst / 1e3:.2f} ms" if worst < 1e4 else f"{worst / 1e3:.1f} ms"
    check(f"{name}: the worst stop", page.text("#total-worst b") == text, (page.text("#total-worst b"), text))
    if page.run("document.querySelector('#near').checked"):
        page.click("#near")
    rows = int(page.run("document.querySelector('#rows').dataset.rows"))
    check(f"{name}: a row for each process", rows == want["processes"], rows)
    while page.run("!document.querySelector('#locks > button').hidden"):
        page.click("#locks > button")
    shown = [int(text) for text in page.texts("#locks tr.item td:nth-child(3)")]
    check(f"{name}: locks in the order of how often they were inherited", shown == want["locks"], shown[:9])
    shown = sorted(int(text) for text in page.texts("#locks tr.item td:nth-child(4)"))
    check(f"{name}: how often each was forced", shown == sorted(want["locks_forced"]), shown[-9:])


def quiet(page, name):
    """Nothing was loaded but the page, nothing went wrong, and neither can."""
    asked = [url for url in page.requests if not url.startswith("file://") or name + ".html" not in url]
    check(f"{name}: no request is made", not asked and len(page.requests) == 1, page.requests)
    check(f"{name}: no errors", not page.errors, page.errors)


def real(page):
    open_page(page, "real")
    totals(page, "real")
    quiet(page, "real")
    refused = page.run("""new Promise(done => {
        document.addEventListener("securitypolicyviolation", e => done(e.effectiveDirective), {once: true});
        fetch("https://example.invalid/").catch(() => setTimeout(() => done("not refused"), 5000));
    })""")
    check("the page may not use the network", refused == "connect-src", refused)
    refused = page.run("""(() => {
        try { document.body.innerHTML = "<b>"; return "set"; } catch (e) { return e.name; }
    })()""")
    check("the page may not take text for markup", refused == "TypeError", refused)


def story(page):
    want = open_page(page, "story")
    totals(page, "story")
    check("story: timeouts", page.text("#total-timeouts b") == "1")
    details = lambda: page.text("#details")
    check("the gravest finding is shown at first", details().startswith("Deadlock: poold 4110 would block"), details())

    # Clicks on marks. (1: fork of 4110, 2: the deadlock, 3: the fork with the long stop.)
    def click_on(index, dx=0):
        x, y = page.run(f"(p => [p.x, p.y])(forksafe.where({index}))")
        page.click("#rows", x + dx, y)

    page.run("document.querySelector('#details').replaceChildren()")
    click_on(2)
    both = ["log_line", "child_main", "spawn.c:61", "logger_main", "log.c:52", "spawn_child", "spawn.c:88",
            "“logger” (tid 4103)", "log_lock", "healed"]
    missing = [text for text in both if text not in details()]
    check("a click on a deadlock shows both sides, with stacks", not missing, missing)
    page.click("#details button")
    check("and leads to the fork that it comes from", details().startswith("Fork: poold 4100 → 4110"), details()[:60])
    click_on(3)
    missing = [text for text in ("3 attempts", "120.0 ms", "Inherited (3)", "its data may be torn", "pool_worker",
                                 "waited for by", "work_ready", "localtime, mktime, tzset and strftime")
               if text not in details()]
    check("a click on a fork's holds shows them", not missing, missing)
    page.run("document.querySelector('#details').replaceChildren()")
    # The stop is 120 ms wide: in the middle of it, on the parent's row.
    zero, y = page.run("(p => [p.x, p.y])(forksafe.where(0))")
    x = page.run("forksafe.where(3).x")
    page.click("#rows", x - (x - zero) * 0.06 / 0.7, y)
    check("a stop can be clicked over its width", details().startswith("Fork: poold 4100 → 4111"), details()[:60])
    check("the address names the event", page.run("location.hash") == "#event=3", page.run("location.hash"))

    # Zoom and moves.
    whole = span(page)
    page.click("#zoom-in")
    check("the + button halves the time shown", near(span(page), whole / 2), span(page))
    page.click("#zoom-out")
    check("the - button doubles it", near(span(page), whole), span(page))
    page.click("#rows", 500, 12)  # the axis: takes the focus and no event
    width = page.run("document.querySelector('#rows').clientWidth")
    gutter = min(240, max(110, round(width * 0.22)))

    def at(x):
        start, end = window(page)
        return start + (x - gutter) / (width - gutter) * (end - start)

    before = at(500)
    page.wheel("#rows", 500, 50, -300)
    check("the wheel zooms in", span(page) < whole * 0.7, (span(page), whole))
    check("about the time under the pointer", abs(at(500) - before) < span(page) * 0.01, (at(500), before))
    start, end = window(page)
    page.drag("#rows", 500, 60, -100, 0)
    moved = window(page)[0] - start
    wanted = 100 / (width - gutter) * (end - start)
    check("dragging moves", near(moved, wanted, 0.05) and near(span(page), end - start), (moved, wanted))
    labels = page.text("#status")
    page.click("#fit")
    check("fit shows all again, and the words below say so",
          near(span(page), whole) and page.text("#status") != labels and "of 4.000 s" in page.text("#status"))
    for key, smaller in (("+", True), ("-", False)):
        before = span(page)
        page.run("document.querySelector('#rows').focus()")
        page.key(key)
        check(f"the key {key} zooms", (span(page) < before) == smaller, (before, span(page)))
    page.click("#zoom-in")
    before = window(page)
    page.key("Tab")
    page.run("document.querySelector('#rows').focus()")
    page.key("ArrowRight")
    check("the arrow keys move", window(page)[0] > before[0])
    page.click("#fit")

    # Keys, and what a screen reader is told.
    page.run("document.querySelector('#rows').focus()")
    heard = []
    for _ in range(want["events"]):
        page.key("n")
        heard.append(page.text("#said"))
    check("n goes through all events", len(set(heard)) == want["events"], heard)
    heard = []
    for _ in range(want["findings"]):
        page.key("f")
        heard.append(page.text("#said"))
    kinds = {text.split(":")[0] for text in heard}
    check("f goes through the findings", len(set(heard)) == want["findings"]
          and kinds == {"fork", "deadlock", "stuck", "timeout"}, heard)
    page.key("ArrowDown")
    check("the down arrow tells the process", page.text("#said").startswith("Process "), page.text("#said"))
    page.key("Enter")
    check("Enter goes to the details", page.run("document.activeElement.id") == "details")

    # The tables.
    first = lambda: page.texts("#locks tr.item td:first-child")
    check("locks by name", first() == ["log_lock", "localtime_r", "work_ready", "0x7f31c0ffee00"], first())
    page.click("#locks tr.item button")
    missing = [text for text in ("log_line", "log.c:27", "×2", "logger_main", "child_main", "held by")
               if text not in page.text("#locks tr.more")]
    check("a click on a lock shows its places and stacks", not missing, missing)
    check("and says that it is open", page.run("document.querySelector('#locks button.open').ariaExpanded") == "true")
    page.click("#locks th:first-child button")
    check("the table is sorted by a click on a column", first() == sorted(first()), first())
    check("and says by which", page.run("document.querySelector('#locks th').ariaSort") == "ascending")
    page.click("#locks th:nth-child(6) button")
    check("numbers from the greatest", first()[0] == "0x7f31c0ffee00", first())
    choose(page, "#lock-find", "pool_wait")
    check("locks can be found by their places", first() == ["work_ready"], first())
    choose(page, "#lock-find", "")
    choose(page, "#group", "site")
    check("by place", "log_line (log.c:27)" in first(), first())
    for kind, number in want["kinds"].items():
        choose(page, "#event-kind", kind)
        check(f"events of the kind {kind}", len(page.texts("#events-table tr.item")) == number)
    choose(page, "#event-kind", "stuck")
    page.click("#events-table tr.item button")
    told = page.text("#events-table tr.more")
    missing = [text for text in ("own_lock", "own.c:9", "not known", "2.000 s") if text not in told]
    check("an event in the table shows its stack", not missing, missing)
    quiet(page, "story")

    open_page(page, "story", "#event=8")
    good = details().startswith("Timeout: poold 4110") and "child_main" in details()
    check("an address with an event opens it", good, details()[:60])

    # Every control has a name.
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    controls = [n for n in nodes if not n.get("ignored") and n["role"]["value"] in
                ("button", "checkbox", "combobox", "searchbox", "application", "table", "region", "columnheader")]
    unnamed = [n["role"]["value"] for n in controls if not n.get("name", {}).get("value")]
    check("every control has a name", len(controls) > 30 and not unnamed, unnamed)

    # Light and dark.
    colors = {}
    for scheme in ("light", "dark"):
        page.scheme(scheme)
        colors[scheme] = page.run("""(() => {
            const c = document.querySelector("#rows");
            return [getComputedStyle(document.body).backgroundColor,
                [...c.getContext("2d").getImageData(3, 3, 1, 1).data].join()];
        })()""")
    check("light and dark", all(a != b for a, b in zip(colors["light"], colors["dark"])), colors)
    page.scheme("light")


def hostile(page):
    want = open_page(page, "hostile")
    said = page.text("#unread")
    check("hostile: what could not be read is counted", said.startswith(f"{want['unread']} lines"), said)
    shown = {key: page.text(f"#total-{key} b") for key in ("processes", "forks", "deadlocks", "stuck", "timeouts")}
    check("hostile: all the others are there", shown == {key: str(want[key]) for key in shown}, shown)
    # Everything is opened, so that every name is on the page somewhere.
    page.run("""(() => {
        const change = (id, value) => {
            document.querySelector(id).value = value;
            document.querySelector(id).dispatchEvent(new Event("change"));
        };
        change("#group", "site");
        change("#group", "lock");
        document.querySelectorAll("#locks tr.item button, #events-table tr.item button").forEach(b => b.click());
    })()""")
    page.run("document.querySelector('#rows').focus()")
    for _ in range(want["events"]):
        page.key("n")
    check("hostile: no name was run", page.run("window.harmed === undefined"))
    found = page.run("[document.scripts.length, document.querySelectorAll('img, svg, iframe, object, a').length]")
    check("hostile: no name became an element", found == [2, 1], found)
    text = page.text("main")
    missing = [name for name in ("</script><script>window.harmed=2</script>", "<!--<script>", "\U0001f512 emoji",
                                 "\ufffdgnp.exe", "]]>&lt;&amp;&#60;", "__proto__", "bad \ufffd", "@EVENTS@",
                                 "`${window.harmed=5}`\\")
               if name not in text]
    check("hostile: names are shown as they are", not missing, missing)
    check("hostile: nothing that turns the text is left", "\u202e" not in text and "\u0007" not in text)
    quiet(page, "hostile")


def big(page):
    start = time.monotonic()
    want = open_page(page, "big")
    took = time.monotonic() - start
    check(f"big: {want['forks']} forks open within 30 s", want["forks"] >= 5000 and took < 30, took)
    print(f"      in {took:.2f} s")
    nodes = page.run("document.querySelectorAll('*').length")
    check("big: not a node for everything", nodes < 20000, nodes)
    before = span(page)
    start = time.monotonic()
    for _ in range(6):
        page.click("#zoom-in")
    took = (time.monotonic() - start) / 6
    check("big: a zoom takes less than 2 s", took < 2 and near(span(page), before / 64), (took, span(page)))
    print(f"      in {took * 1000:.0f} ms")
    rows = int(page.run("document.querySelector('#rows').dataset.rows"))
    check("big: only the processes of the shown time have rows", 0 < rows < want["processes"] / 4, rows)
    page.click("#total-worst")
    where = page.run("forksafe.where(Number(location.hash.slice(7)))")
    box = page.run("(n => [n.clientWidth, n.clientHeight])(document.querySelector('#rows'))")
    good = 0 < where["x"] < box[0] and 0 < where["y"] < box[1]
    check("big: a total leads to its event, in sight", good, (where, box))
    page.click("#fit")
    totals(page, "big")
    quiet(page, "big")


def empty(page):
    open_page(page, "empty")
    check("empty: opens", page.text("#total-forks b") == "0" and page.text("#events-table p") == "None.")
    page.run("document.querySelector('#rows').focus()")
    for key in ("+", "n", "f", "ArrowDown", "Enter"):
        page.key(key)
    page.click("#rows", 300, 40)
    quiet(page, "empty")


page = browser.Page(browser.find())
try:
    for look in (real, story, hostile, big, empty):
        look(page)
finally:
    page.close()
sys.exit(failures != 0)
