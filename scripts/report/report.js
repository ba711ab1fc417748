// Draws the report from the data in the page. The columns of a table in `data` have the same length. Days are numbers
// from 1970-01-01; pages, types, staff and ads are positions in the lists of that name.

const texts = JSON.parse(document.getElementById("texts").textContent);
const data = JSON.parse(document.getElementById("data").textContent);

const BLUE = "#2a5bd7", PALE = "#a9bcf0", GREEN = "#0a7c42", ORANGE = "#c25e00", PURPLE = "#7b3fa0", GREY = "#6b7280";
const SPEAKERS = { customer: BLUE, staff: GREEN, outside: ORANGE, automation: PURPLE, other: GREY };
const MOST_BARS = 15;
const MOST_WAITING = 100; // as in models.py
const DAY = 864e5;
const MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ");
const PERIODS = { today: [0, 0], yesterday: [1, 1], days_7: [7, 1], days_28: [28, 1], days_90: [90, 1] };

const today = Math.max(...data.pages.map((page) => Math.floor(localTime(data.as_of, page.zone) / DAY)));
const first = Math.min(data.first ?? today, today);
const state = {
    language: (navigator.language || "").startsWith("vi") ? "vi" : "en",
    page: "", channel: "", type: "0", minutes: "working", sorts: {},
};
setPeriod(first <= today - 28 ? "days_28" : "days_7");

// ---- Words and numbers

function text(key, values = {}) {
    const found = texts[state.language][key] ?? texts.en[key] ?? key;
    return found.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/** The text for a code in the data; the code itself if there is no text. */
function named(kind, code) {
    const key = `${kind}.${code}`;
    return key in texts.en ? text(key) : String(code ?? "").replaceAll("_", " ");
}

function number(value, digits = 0) {
    if (value === null || value === undefined) return "–";
    return new Intl.NumberFormat(state.language, { maximumFractionDigits: digits }).format(value);
}

function percent(share) {
    return share === null ? "–" : `${number(share * 100, 1)}%`;
}

/** Minutes in a readable unit. Working time is at most in hours, because a working day has no fixed length. */
function minutes(value, isWorking = state.minutes === "working") {
    if (value === null) return "–";
    if (value < 60) return text("unit.minutes", { n: number(value, value < 10 ? 1 : 0) });
    if (isWorking || value < 48 * 60) return text("unit.hours", { n: number(value / 60, 1) });
    return text("unit.days", { n: number(value / 1440, 1) });
}

/** Minutes for a narrow cell. */
function shortMinutes(value) {
    if (!isNarrow()) return minutes(value);
    const [unit, count] = value < 60 ? ["unit.short_minutes", value] : ["unit.short_hours", value / 60];
    return text(unit, { n: number(count, count < 9.95 && unit === "unit.short_hours" ? 1 : 0) });
}

function target() {
    return data.target === null ? text("target") : minutes(data.target, true);
}

/** The unit of response times, as a part of a sentence. */
function counting() {
    return text(`minutes.${state.minutes}`).toLocaleLowerCase(state.language);
}

function isNarrow() {
    return window.innerWidth < 600;
}

function money(value, currency) {
    if (value === null) return "–";
    return `${number(value, Math.abs(value) < 100 ? 2 : 0)} ${currency ?? ""}`.trim();
}

/** A day in the format of the language, which plotly also uses. */
function date(day) {
    const [year, month, ofMonth] = isoDate(day).split("-");
    const parts = { "%Y": year, "%m": month, "%d": ofMonth, "%-d": +ofMonth, "%b": MONTHS[month - 1] };
    return text("date.full").replace(/%-?[a-z]/gi, (part) => parts[part]);
}

function isoDate(day) {
    return new Date(day * DAY).toISOString().slice(0, 10);
}

/** A time in UTC as milliseconds in a page's time zone. */
function localTime(at, zone) {
    return Date.parse(`${at}Z`) + zone * 36e5;
}

/** A local time of a page, as text. */
function clock(local) {
    return local ? `${date(Date.parse(`${local.slice(0, 10)}Z`) / DAY)} ${local.slice(11, 16)}` : "–";
}

function ownTime(at, zone) {
    return at && new Date(localTime(at, zone)).toISOString().slice(0, 16);
}

function zoneName(zone) {
    return `UTC${zone < 0 ? "−" : "+"}${number(Math.abs(zone), 2)}`;
}

/** A text that plotly shows unchanged; plotly interprets some HTML. */
function literal(value) {
    return String(value).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

/** A text that is short enough for a label beside bars. */
function shortened(value) {
    const longest = isNarrow() ? 14 : 22;
    const letters = [...value];
    return letters.length <= longest ? value : letters.slice(0, longest - 1).join("") + "…";
}

/** A quantile of values, with linear interpolation; 0.5 is the median. */
function quantile(values, part) {
    if (!values.length) return null;
    const sorted = [...values].sort((a, b) => a - b);
    const place = (sorted.length - 1) * part, below = Math.floor(place);
    return sorted[below] + (place - below) * ((sorted[below + 1] ?? sorted[below]) - sorted[below]);
}

function sum(rows, column) {
    return rows.reduce((total, row) => total + (column[row] ?? 0), 0);
}

function grouped(rows, key) {
    const groups = new Map();
    for (const row of rows) {
        const name = key(row);
        if (groups.has(name)) groups.get(name).push(row);
        else groups.set(name, [row]);
    }
    return groups;
}

// ---- Filters

function isChosen(page) {
    return (state.page === "" || page === +state.page)
        && (state.channel === "" || data.pages[page].channel === state.channel);
}

function chosenPages() {
    return [...data.pages.keys()].filter(isChosen);
}

/** Rows of a table that pass the filters. */
function rowsOf(table, from = state.from, to = state.to) {
    const rows = [];
    for (let row = 0; row < table.page.length; row++) {
        if (!isChosen(table.page[row])) continue;
        if (table.type && state.type !== "" && table.type[row] !== +state.type) continue;
        if (table.day && (table.day[row] < from || table.day[row] > to)) continue;
        rows.push(row);
    }
    return rows;
}

function setPeriod(period) {
    state.period = period;
    if (period === "all") [state.from, state.to] = [first, today];
    else if (period !== "custom") [state.from, state.to] = PERIODS[period].map((days) => today - days);
}

/** The number of days of the chosen pages, and how many of them are complete. */
function completeness(from, to) {
    let complete = 0;
    const pages = chosenPages();
    for (const page of pages) {
        const { first: begins, complete: flags } = data.pages[page];
        for (let day = from; begins !== null && day <= to; day++) complete += flags[day - begins] === "1";
    }
    const all = pages.length * (to - from + 1);
    return { all, complete, isComplete: all > 0 && complete === all };
}

/** The response times of answered waits. */
function waited(rows) {
    const column = data.waits[state.minutes];
    return rows.filter((row) => !data.waits.open[row]).map((row) => column[row]);
}

/** The share of waits within the target. Open waits that are not late do not count. */
function withinTarget(rows) {
    const decided = rows.filter((row) => data.waits.within[row] !== null);
    return { n: decided.length, share: decided.length ? sum(decided, data.waits.within) / decided.length : null };
}

/** Whether a wait is open and longer than the target. */
function isLate(row) {
    return data.waits.open[row] && data.waits.within[row] === 0;
}

function headlines(from, to) {
    const sent = rowsOf(data.messages, from, to), came = rowsOf(data.customers, from, to);
    const asked = rowsOf(data.waits, from, to), answered = waited(asked), within = withinTarget(asked);
    return {
        messages: { value: Object.keys(SPEAKERS).reduce((all, name) => all + sum(sent, data.messages[name]), 0) },
        customers: { value: sum(came, data.customers.customers) },
        with_phone: { value: sum(came, data.customers.with_phone) },
        median: { value: quantile(answered, 0.5), n: answered.length },
        within: { value: within.share, n: within.n, late: asked.filter(isLate).length },
    };
}

function openNow() {
    return sum(rowsOf(data.open), data.open.open_count);
}

// ---- Parts of the page

function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
        if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
        else if (value !== false && value !== null) made.setAttribute(name, value === true ? "" : value);
    }
    made.append(...children.filter((child) => child !== null));
    return made;
}

function choice(name, options) {
    const list = element("select", { id: name, onchange: (event) => change(name, event.target.value) });
    for (const [value, words] of options) {
        list.append(element("option", { value, selected: String(value) === state[name] }, words));
    }
    return element("label", {}, text(`filter.${name}`), list);
}

function dateChoice(name) {
    const onchange = (event) => {
        const day = Math.floor(event.target.valueAsNumber / DAY);
        if (Number.isFinite(day)) change(name, day);
    };
    const value = isoDate(state[name]);
    return element("label", {}, text(`filter.${name}`), element("input", { type: "date", id: name, value, onchange }));
}

function change(name, value) {
    state[name] = value;
    if (name === "period") setPeriod(value);
    if (name === "from" || name === "to") {
        state.period = "custom";
        if (state.from > state.to) [state.from, state.to] = [value, value];
    }
    document.getElementById("period").value = state.period;
    for (const end of ["from", "to"]) document.getElementById(end).value = isoDate(state[end]);
    update();
}

function filters() {
    const channels = [...new Set(data.pages.map((page) => page.channel))].sort();
    const zipped = (names, kind) => names.map((name) => [name, named(kind, name)]);
    return element(
        "form", { class: "filters", "aria-label": text("filter.all"), onsubmit: (event) => event.preventDefault() },
        choice("page", [["", text("all.pages")], ...data.pages.map((page, place) => [place, page.name])]),
        choice("channel", [["", text("all.channels")], ...zipped(channels, "channel")]),
        choice("type", [["", text("all.types")], ...data.types.map((type, place) => [place, named("type", type)])]),
        choice("period", zipped([...Object.keys(PERIODS), "all", "custom"], "period")),
        dateChoice("from"), dateChoice("to"),
        choice("minutes", zipped(["working", "minutes"], "minutes")),
    );
}

function languages() {
    const group = element("div", { class: "languages", role: "group", "aria-label": "Language, ngôn ngữ" });
    for (const language of Object.keys(texts)) {
        const onclick = () => {
            state.language = language;
            build();
            document.getElementById(`language-${language}`).focus();
        };
        const pressed = String(language === state.language);
        const attributes = { type: "button", id: `language-${language}`, lang: language, "aria-pressed": pressed };
        group.append(element("button", { ...attributes, onclick }, texts[language].language));
    }
    return group;
}

/**
 * A table that sorts by a column. A column has a `key` for a row's value, `words` for the head, `show` to format a
 * value, and `is_text`. Rows are objects. Empty values are last.
 */
function table(id, columns, rows) {
    const body = element("tbody");
    const heads = columns.map((column) => {
        const head = element("th", { scope: "col", class: column.is_text ? "" : "number" });
        head.append(element("button", { type: "button", onclick: () => sortBy(column) }, column.words));
        return head;
    });
    function sortBy(column) {
        const now = state.sorts[id];
        const descending = now?.key === column.key ? !now.descending : !column.is_text;
        state.sorts[id] = { key: column.key, descending };
        fill();
    }
    function fill() {
        const sort = state.sorts[id];
        const compared = (a, b) => {
            const [left, right] = [a[sort.key], b[sort.key]];
            if (left === null || right === null) return (left === null) - (right === null);
            const order = typeof left === "string" ? left.localeCompare(right, state.language) : left - right;
            return sort.descending ? -order : order;
        };
        const shown = sort ? [...rows].sort(compared) : rows;
        body.replaceChildren(...shown.map((row) => element("tr", {}, ...columns.map((column) => {
            const show = column.show ?? (column.is_text ? String : (value) => number(value));
            const value = row[column.key];
            return element("td", { class: column.is_text ? "" : "number", "data-value": value }, show(value, row));
        }))));
        heads.forEach((head, place) => {
            const isSorted = sort?.key === columns[place].key;
            head.setAttribute("aria-sort", !isSorted ? "none" : sort.descending ? "descending" : "ascending");
        });
    }
    fill();
    const made = element("table", { id: `table-${id}` }, element("thead", {}, element("tr", {}, ...heads)), body);
    const attributes = { class: "scroll", tabindex: "0", role: "region", "aria-label": text(`${id}.title`) };
    return element("div", { ...attributes, "data-hint": text("scroll") }, made);
}

/** Fills a section with its chart (traces and layout, or null) and a table of its numbers. */
function show(id, { note, chart, columns, rows, isOpen = false }) {
    const section = document.getElementById(id);
    section.querySelector(".note").textContent = note ?? text(`${id}.note`, { minutes: counting(), target: target() });
    const numbers = section.querySelector(".numbers"), drawn = section.querySelector(".chart");
    if (!rows.length) {
        numbers.replaceChildren(element("p", { class: "nothing" }, text("nothing")));
    }
    if (drawn && !chart) {
        Plotly.purge(drawn);
        drawn.replaceChildren();
        drawn.style.height = "";
    }
    if (!rows.length) return;
    const filled = table(id, columns, rows);
    if (!drawn || isOpen) numbers.replaceChildren(filled);
    else {
        const wasOpen = numbers.querySelector("details")?.open ?? false;
        const summary = element("summary", {}, text("as_table"));
        numbers.replaceChildren(element("details", { open: wasOpen }, summary, filled));
    }
    if (chart) {
        drawn.style.height = `${chart.layout.height}px`;
        Plotly.react(drawn, chart.traces, styled(chart.layout), { displayModeBar: false, responsive: true });
    }
}

function styled(layout) {
    const axis = (own = {}) => ({
        automargin: true, gridcolor: "#e3e6ea", zeroline: false, fixedrange: true, ...own,
        title: { text: own.title ?? "", standoff: 10, font: { size: 13 } },
    });
    return {
        barmode: "stack", bargap: 0.25, dragmode: false, paper_bgcolor: "#fff", plot_bgcolor: "#fff",
        font: { family: "system-ui, sans-serif", size: 13, color: "#222" },
        margin: { l: 8, r: 12, t: 8, b: 8 },
        legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", traceorder: "normal" },
        ...layout,
        xaxis: axis(layout.xaxis), yaxis: axis(layout.yaxis),
        ...(layout.yaxis2 ? { yaxis2: axis(layout.yaxis2) } : {}),
    };
}

/** Horizontal bars, with the first on top. `labels` may have a second line. */
function lyingBars(labels, traces, title, barmode = "stack") {
    const places = labels.map((_, place) => place);
    const most = Math.max(...traces.flatMap((trace) => trace.x));
    return {
        traces: traces.map((trace) => ({
            type: "bar", orientation: "h", y: places, hovertext: labels, hovertemplate: "%{hovertext}<br>%{x}", ...trace,
        })),
        layout: {
            height: 130 + 36 * labels.length, barmode,
            xaxis: { title, rangemode: "tozero", ...(most < 10 ? { dtick: 1 } : {}) },
            yaxis: { autorange: "reversed", showgrid: false, tickmode: "array", tickvals: places, ticktext: labels },
        },
    };
}

// ---- The sections

const SECTIONS = {
    messages() {
        const days = grouped(rowsOf(data.messages), (row) => data.messages.day[row]);
        const names = Object.keys(SPEAKERS);
        const rows = [...days].sort(([a], [b]) => a - b).map(([day, of]) => {
            const counts = names.map((name) => sum(of, data.messages[name]));
            const { isComplete } = completeness(day, day);
            const all = counts.reduce((a, b) => a + b, 0);
            return { day, all, complete: +isComplete, ...Object.fromEntries(names.map((name, n) => [name, counts[n]])) };
        }).filter((row) => row.all);
        const spoke = names.filter((name) => rows.some((row) => row[name]));
        return {
            rows,
            columns: [
                { key: "day", words: text("column.day"), show: (day) => date(day) },
                { key: "all", words: text("column.all") },
                ...spoke.map((key) => ({ key, words: text(`speaker.${key}`) })),
                { key: "complete", words: text("column.complete"), show: (is) => text(is ? "yes" : "no") },
            ],
            chart: rows.length > 0 && {
                traces: spoke.map((name) => ({
                    type: "bar", name: text(`speaker.${name}`), x: rows.map((row) => isoDate(row.day)),
                    y: rows.map((row) => row[name]),
                    marker: { color: SPEAKERS[name], opacity: rows.map((row) => (row.complete ? 1 : 0.45)) },
                })),
                layout: {
                    height: 340, showlegend: true,
                    xaxis: {
                        type: "date", tickformat: text("date.short"), hoverformat: text("date.full"),
                        range: [isoDate(state.from - 1) + " 12:00", isoDate(state.to) + " 12:00"],
                        ...(state.to - state.from < 8 ? { dtick: DAY } : {}),
                    },
                    yaxis: { title: text("messages.axis"), rangemode: "tozero" },
                },
            },
        };
    },

    hours() {
        const cells = grouped(rowsOf(data.waits), (row) => `${(data.waits.day[row] + 3) % 7} ${data.waits.hour[row]}`);
        const weekdays = text("weekdays").split(" ");
        const rows = [], heat = { z: [], text: [], hover: [], counts: [] };
        for (let hour = 0; hour < 24; hour++) {
            const line = { z: [], text: [], hover: [], counts: [] };
            weekdays.forEach((name, weekday) => {
                const times = waited(cells.get(`${weekday} ${hour}`) ?? []), middle = quantile(times, 0.5);
                if (times.length) rows.push({ weekday, hour, n: times.length, median: middle });
                line.counts.push(times.length);
                line.z.push(times.length ? Math.log10(1 + middle) : null);
                line.text.push(times.length ? `${shortMinutes(middle)}<br>n ${times.length}` : "");
                line.hover.push(`${literal(name)} ${hour}:00<br>${minutes(middle)}<br>n = ${times.length}`);
            });
            for (const [name, values] of Object.entries(line)) heat[name].push(values);
        }
        return {
            rows: rows.sort((a, b) => a.weekday - b.weekday || a.hour - b.hour),
            columns: [
                { key: "weekday", words: text("column.weekday"), show: (weekday) => weekdays[weekday] },
                { key: "hour", words: text("column.hour"), show: (hour) => `${hour}:00` },
                { key: "n", words: "n" },
                { key: "median", words: text("column.median"), show: (value) => minutes(value) },
            ],
            chart: rows.length > 0 && {
                traces: [{
                    type: "heatmap", x: weekdays, y: [...Array(24).keys()].map((hour) => `${hour}:00`), z: heat.z,
                    text: heat.text, texttemplate: "%{text}", textfont: { size: 11, color: "#111" }, hovertext: heat.hover,
                    hovertemplate: "%{hovertext}<extra></extra>", customdata: heat.counts, showscale: false,
                    hoverongaps: false, xgap: 2, ygap: 2, zmin: 0, zmax: Math.log10(1441),
                    colorscale: [[0, "#dcf1e3"], [0.38, "#fff0c9"], [0.7, "#fbbf77"], [1, "#f0815a"]],
                }],
                layout: {
                    height: 860, xaxis: { side: "top", showgrid: false, tickangle: 0 },
                    yaxis: { autorange: "reversed", showgrid: false, type: "category", dtick: 1 },
                },
            },
        };
    },

    weeks() {
        const weeks = grouped(rowsOf(data.waits), (row) => data.waits.day[row] - ((data.waits.day[row] + 3) % 7));
        const rows = [...weeks].sort(([a], [b]) => a - b).map(([week, of]) => {
            const times = waited(of), within = withinTarget(of);
            const days = Math.min(week + 6, state.to, today) - Math.max(week, state.from) + 1;
            return {
                week, days, n: times.length, median: quantile(times, 0.5), p90: quantile(times, 0.9), within: within.share,
                complete: +completeness(Math.max(week, state.from), Math.min(week + 6, state.to)).isComplete,
            };
        }).filter((row) => row.n);
        const inHours = Math.max(...rows.map((row) => row.p90)) >= 180, unit = inHours ? 60 : 1;
        const x = rows.map((row) => isoDate(row.week));
        const titled = (row) => date(row.week) + (row.days < 7 ? ` (${text("weeks.part", { n: row.days })})` : "");
        // Unselected points are pale. The legend keeps its colour.
        const isWhole = (place) => rows[place].complete && rows[place].days === 7;
        const pale = { selectedpoints: [...rows.keys()].filter(isWhole), unselected: { marker: { opacity: 0.45 } } };
        const line = (key, name, color, dash) => ({
            ...pale, type: "scatter", mode: "lines+markers", name, x, y: rows.map((row) => row[key] / unit), line: { color, dash },
            marker: { color, size: 7 }, hovertext: rows.map((row) => `${titled(row)}<br>${minutes(row[key])}<br>n = ${row.n}`),
            hovertemplate: "%{hovertext}",
        });
        return {
            rows,
            columns: [
                { key: "week", words: text("column.week"), show: (_, row) => titled(row) },
                { key: "n", words: "n" },
                { key: "median", words: text("column.median"), show: (value) => minutes(value) },
                { key: "p90", words: text("column.p90"), show: (value) => minutes(value) },
                { key: "within", words: text("column.within", { target: target() }), show: percent },
                { key: "complete", words: text("column.complete"), show: (is) => text(is ? "yes" : "no") },
            ],
            chart: rows.length > 0 && {
                traces: [
                    line("median", text("column.median"), BLUE, "solid"),
                    line("p90", text("column.p90"), ORANGE, "dot"),
                    {
                        ...pale, type: "bar", name: text("weeks.answers"), x, y: rows.map((row) => row.n), yaxis: "y2",
                        marker: { color: PALE }, width: 4 * DAY, text: rows.map((row) => `n ${row.n}`),
                        textposition: "outside", textangle: 0, cliponaxis: false,
                        hovertext: rows.map((row) => `${titled(row)}<br>n = ${row.n}`), hovertemplate: "%{hovertext}",
                    },
                ],
                layout: {
                    height: 420, showlegend: true,
                    xaxis: {
                        type: "date", tickformat: text(isNarrow() ? "date.short" : "date.full"), anchor: "y2",
                        ...(x.length < 7 ? { tickmode: "array", tickvals: x } : {}),
                    },
                    yaxis: { domain: [0.34, 1], title: text(inHours ? "axis.hours" : "axis.minutes"), rangemode: "tozero" },
                    yaxis2: { domain: [0, 0.26], title: "n", range: [0, 1.4 * Math.max(...rows.map((row) => row.n))], nticks: 3 },
                },
            },
        };
    },

    staff() {
        const table = data.staff_days;
        const kind = { INBOX: "inbox_", COMMENT: "comment_" }[data.types[state.type]] ?? (state.type === "" ? "" : null);
        const worked = grouped(rowsOf(table), (row) => table.staff[row]);
        const answered = grouped(rowsOf(data.waits).filter((row) => !data.waits.open[row]), (row) => data.waits.staff[row]);
        const rows = [...new Set([...worked.keys(), ...answered.keys()])].map((person) => {
            const days = worked.get(person) ?? [], waits = answered.get(person) ?? [], times = waited(waits);
            const [all, orders] = [sum(days, table.conversation_count), sum(days, table.order_count)];
            return {
                name: data.staff[person] ?? text("staff.unknown"),
                conversations: kind === null ? null : sum(days, table[`${kind}conversation_count`]),
                messages: kind === null ? null : sum(days, table[`${kind}message_count`]),
                n: times.length, median: quantile(times, 0.5), p90: quantile(times, 0.9),
                within: withinTarget(waits).share, phones: sum(days, table.phone_conversation_count), orders,
                close: all ? orders / all : null,
            };
        }).sort((a, b) => b.n - a.n || b.messages - a.messages || a.name.localeCompare(b.name));
        // These columns have no numbers by kind.
        const ofAll = (key) => text(key) + (state.type === "" ? "" : ` (${text("all.types").toLowerCase()})`);
        return {
            rows,
            columns: [
                { key: "name", words: text("column.name"), is_text: true },
                { key: "n", words: text("column.answers") },
                { key: "median", words: text("column.median"), show: (value) => minutes(value) },
                { key: "p90", words: text("column.p90"), show: (value) => minutes(value) },
                { key: "within", words: text("column.within", { target: target() }), show: percent },
                { key: "conversations", words: text("column.conversations") },
                { key: "messages", words: text("column.messages") },
                { key: "phones", words: ofAll("column.phones") },
                { key: "orders", words: ofAll("column.orders") },
                { key: "close", words: ofAll("column.close"), show: percent },
            ],
        };
    },

    waiting() {
        const table = data.waiting, all = rowsOf(table), count = openNow();
        return {
            note: text("waiting.note", { n: number(count), shown: number(Math.min(all.length, MOST_WAITING)) }),
            rows: all.slice(0, MOST_WAITING).map((row) => ({
                name: table.name[row], page: data.pages[table.page[row]].name, type: named("type", data.types[table.type[row]]),
                since: table.since[row], minutes: table.minutes[row], working: table.working[row],
            })),
            columns: [
                { key: "name", words: text("column.customer"), is_text: true },
                { key: "minutes", words: text("column.waiting"), show: (value) => minutes(value, false) },
                { key: "working", words: text("minutes.working"), show: (value) => minutes(value, true) },
                { key: "since", words: text("column.since"), is_text: true, show: clock },
                { key: "page", words: text("filter.page"), is_text: true },
                { key: "type", words: text("filter.type"), is_text: true },
            ],
        };
    },

    ads() {
        const table = data.ad_days;
        const rows = [...grouped(rowsOf(table), (row) => table.ad[row])].map(([ad, of]) => {
            const [name, currency] = data.ads[ad];
            const spend = of.some((row) => table.spend[row] !== null) ? sum(of, table.spend) : null;
            const customers = sum(of, table.new_customer_count);
            return {
                name, currency, page: data.pages[table.page[of[0]]].name, spend, customers,
                conversations: sum(of, table.new_conversation_count),
                phones: sum(of, table.new_customer_with_phone_count), orders: sum(of, table.order_count),
                cost: spend !== null && customers ? spend / customers : null,
                complete: +of.every((row) => table.complete[row]),
            };
        }).sort((a, b) => b.customers - a.customers || b.spend - a.spend);
        const best = rows.filter((row) => row.customers).slice(0, MOST_BARS);
        const labels = best.map((row) => `${literal(shortened(row.name))}<br>${literal(money(row.cost, row.currency))}`);
        const bars = (key, value, color) => ({ name: text(`ads.${key}`), x: best.map(value), marker: { color } });
        const shown = (value, row) => money(value, row.currency);
        return {
            note: text("ads.note") + otherKinds(), isOpen: true, rows,
            columns: [
                { key: "name", words: text("column.ad"), is_text: true },
                { key: "customers", words: text("column.new_customers") },
                { key: "cost", words: text("column.cost"), show: shown },
                { key: "spend", words: text("column.spend"), show: shown },
                { key: "conversations", words: text("column.new_conversations") },
                { key: "phones", words: text("column.with_phone") },
                { key: "orders", words: text("column.orders") },
                { key: "page", words: text("filter.page"), is_text: true },
                { key: "complete", words: text("column.complete"), show: (is) => text(is ? "yes" : "no") },
            ],
            chart: best.length > 0 && lyingBars(labels, [
                bars("with_phone", (row) => row.phones, GREEN),
                bars("without", (row) => row.customers - row.phones, PALE),
            ], text("column.new_customers")),
        };
    },

    ratings() {
        const found = rowsOf(data.ratings), all = sum(found, data.ratings.rating_count);
        const stars = grouped(found, (row) => data.ratings.rating[row]);
        const rows = [...stars].sort(([a], [b]) => b - a).map(([rating, of]) => {
            const n = sum(of, data.ratings.rating_count);
            return { rating, n, share: n / all };
        });
        const average = rows.reduce((total, row) => total + row.rating * row.n, 0) / all;
        return {
            note: all ? text("ratings.note", { average: number(average, 2), n: number(all) }) : text("nothing"), rows,
            columns: [
                { key: "rating", words: text("column.rating") },
                { key: "n", words: "n" },
                { key: "share", words: text("column.share"), show: percent },
            ],
            chart: rows.length > 0 && lyingBars(
                rows.map((row) => `${row.rating} ★`),
                [{ x: rows.map((row) => row.n), text: rows.map((row) => number(row.n)), marker: { color: BLUE } }],
                text("ratings.axis"),
            ),
        };
    },

    tags() {
        const table = data.tags, isAll = state.from <= first && state.to >= today, chosen = [];
        for (let row = 0; row < table.page.length; row++) {
            const week = table.day[row];
            // The week is null if the history of tags does not show it.
            const isIn = week === null ? isAll : week <= state.to && week + 6 >= state.from;
            if (isIn && isChosen(table.page[row])) chosen.push(row);
        }
        const rows = [...grouped(chosen, (row) => table.name[row])].map(([name, of]) => ({
            name, ever: sum(of, table.ever_count), now: sum(of, table.now_count), phones: sum(of, table.with_phone_count),
        })).sort((a, b) => b.ever - a.ever || b.now - a.now);
        const best = rows.slice(0, MOST_BARS);
        return {
            note: text("tags.note") + otherKinds(), rows,
            columns: [
                { key: "name", words: text("column.tag"), is_text: true },
                { key: "ever", words: text("tags.ever") },
                { key: "now", words: text("tags.now") },
                { key: "phones", words: text("column.with_phone") },
            ],
            chart: best.length > 0 && lyingBars(best.map((row) => literal(shortened(row.name))), [
                { name: text("tags.ever"), x: best.map((row) => row.ever), marker: { color: PALE } },
                { name: text("tags.now"), x: best.map((row) => row.now), marker: { color: BLUE }, width: 0.45 },
            ], text("column.conversations"), "overlay"),
        };
    },
};
const WITHOUT_CHART = new Set(["staff", "waiting"]);

function otherKinds() {
    return state.type === "" ? "" : ` ${text("all_kinds")}`;
}

function cards() {
    const { from, to } = state, length = to - from + 1;
    const now = headlines(from, to), before = headlines(from - length, from - 1);
    const canCompare = completeness(from, to).isComplete && completeness(from - length, from - 1).isComplete;
    // Days that do not fit into the file.
    const isCut = (day) => data.shortened && day < data.first;
    now.open = { value: openNow() };
    before.open = { value: sum(rowsOf(data.backlog, from - 1, from - 1), data.backlog.open_count) };
    const shown = { median: (value) => minutes(value), within: percent };
    return Object.entries(now).map(([name, { value, n, late }]) => {
        const show = shown[name] ?? number, then = before[name].value;
        const canSay = name === "open" ? completeness(from - 1, from - 1).isComplete : canCompare;
        const begins = name === "open" ? from - 1 : from - length;
        return element(
            "div", { class: "card", id: `card-${name}` },
            element("h3", {}, text(`card.${name}`, { minutes: counting(), target: target() })),
            element("p", { class: "value", "data-value": value }, show(value)),
            n === undefined ? null : element("p", { class: "count" }, `n = ${number(n)}`
                + (late ? ` (${text("late", { n: number(late) })})` : "")),
            element("p", { class: "change" }, canSay && then !== null && value !== null
                ? changed(name, value, then, show) : text(isCut(begins) ? "cut_off" : "no_comparison")),
        );
    });
}

/** The change as text: in percent of the period before, or in points for a share. */
function changed(name, value, then, show) {
    const arrow = value > then ? "▲" : value < then ? "▼" : "=";
    const change = name === "within" ? text("unit.points", { n: number(Math.abs(value - then) * 100, 1) })
        : then ? percent(Math.abs(value - then) / then) : "";
    const words = text(name === "open" ? "before_open" : "before", { value: show(then) });
    return `${arrow} ${value === then ? "" : change} ${words}`.replace(/ +/g, " ");
}

function status() {
    const pages = chosenPages(), zones = [...new Set(pages.map((page) => data.pages[page].zone))];
    const { all, complete, isComplete } = completeness(state.from, state.to);
    const found = pages.map((page) => data.pages[page]);
    const stale = found.filter((page) => page.stale && page.status !== "unread").map((page) => page.name);
    const unread = found.filter((page) => page.status === "unread")
        .map((page) => [page.name, since(page), why(page)].filter(Boolean).join(", "));
    const allHours = found.filter((page) => page.all_hours).map((page) => page.name);
    const zone = zones[0] ?? data.pages[0].zone;
    return [
        element("p", { id: "as-of" }, text("as_of", { at: clock(ownTime(data.as_of, zone)), zone: zoneName(zone) })
            + " " + text("zones", { zones: zones.map(zoneName).join(", ") })),
        allHours.length ? element("p", { id: "all-hours" }, text("all_hours", {
            pages: allHours.length === data.pages.length ? text("all.pages") : allHours.join(", "),
        })) : null,
        element("p", { id: "complete", class: isComplete ? "" : "warning" }, isComplete ? text("complete.all")
            : text("complete.some", { complete: number(complete), all: number(all) })),
        unread.length ? element("p", { id: "unread", class: "warning" }, text("unread", { pages: unread.join("; ") })) : null,
        stale.length ? element("p", { class: "warning" }, text("stale", { pages: stale.join(", ") })) : null,
        data.shortened ? element("p", { class: "warning" }, text("shortened", { day: date(data.first) })) : null,
    ].filter((part) => part !== null);
}

/** The reason why a page was not read completely. */
function why({ reason }) {
    return `why.${reason}` in texts.en ? text(`why.${reason}`) : reason ?? "";
}

/** The time since which nothing was read of a page, as text. */
function since(page) {
    return page.last_read ? text("since", { at: clock(ownTime(page.last_read, page.zone)) }) : "";
}

function health() {
    const found = chosenPages().map((place) => data.pages[place]);
    return table("health", [
        { key: "name", words: text("filter.page"), is_text: true },
        { key: "channel", words: text("filter.channel"), is_text: true },
        { key: "zone", words: text("column.zone"), show: zoneName },
        { key: "status", words: text("column.status"), is_text: true },
        ...(found.some(why) ? [{ key: "why", words: text("column.why"), is_text: true }] : []),
        { key: "done", words: text("column.last_complete"), is_text: true, show: clock },
        { key: "aside", words: text("column.set_aside") },
    ], found.map((page) => ({
        name: page.name, channel: named("channel", page.channel), zone: page.zone,
        status: named("status", page.status ?? "never_run")
            + (page.status === "unread" ? ` ${since(page)}` : page.stale ? `, ${text("is_stale")}` : ""),
        why: why(page), done: ownTime(page.last_complete, page.zone), aside: page.set_aside,
    })));
}

function update() {
    document.getElementById("status").replaceChildren(...status());
    document.getElementById("cards").replaceChildren(...cards());
    document.getElementById("health-table").replaceChildren(health());
    for (const [id, drawn] of Object.entries(SECTIONS)) show(id, drawn());
}

function build() {
    document.documentElement.lang = state.language;
    document.title = text("title");
    const sections = Object.keys(SECTIONS).map((id) => element(
        "section", { id, "aria-labelledby": `${id}-title` },
        element("h2", { id: `${id}-title` }, text(`${id}.title`)),
        element("p", { class: "note" }),
        WITHOUT_CHART.has(id) ? null : element("div", { class: "chart", id: `chart-${id}`, "aria-hidden": "true" }),
        element("div", { class: "numbers" }),
    ));
    document.getElementById("report").replaceChildren(
        element("header", {}, element("h1", {}, text("title")), languages()),
        filters(),
        element("div", { id: "status", "aria-live": "polite" }),
        element("main", {},
            element("div", { id: "cards" }),
            ...sections,
            element("section", { id: "health", "aria-labelledby": "health-title" },
                element("h2", { id: "health-title" }, text("health.title")),
                element("p", { class: "note" }, text("health.note")), element("div", { id: "health-table" }))),
    );
    update();
}

build();
