"use strict";
// Names come from the cluster and may be hostile: they are put in as text alone, never as markup.
(() => {
  const $ = id => document.getElementById(id);
  const VERDICTS = ["plaintext", "opaque", "tls", "mesh-mtls"];
  const SEVERITIES = ["critical", "high", "medium", "low", "info"];
  const MAP_EDGES = 400, ROWS = 500, PAGES = 50, EVERY = 5000;
  const state = { view: "map", paused: false, token: "", chosen: null, shown: new Set(VERDICTS), words: [], data: null, readiness: null, opened: new Set() };

  const el = (name, attributes = {}, ...children) => {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  };
  const svg = (name, attributes = {}, ...children) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  };
  const number = value => Number(value || 0).toLocaleString("en");
  const cut = (text, length) => text.length > length ? text.slice(0, length - 1) + "…" : text;
  const when = text => {
    const at = new Date(text);
    return isNaN(at) ? "—" : at.toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
  };
  const ago = text => {
    const seconds = Math.max(0, (Date.now() - new Date(text)) / 1000);
    if (!isFinite(seconds)) return "—";
    for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) if (seconds >= size) return Math.floor(seconds / size) + " " + unit;
    return Math.floor(seconds) + " s";
  };

  // === what an end is called, and where it stands on the map

  const endName = end => end.pod || end.service || end.node || end.address || "?";
  const full = end => end.namespace ? end.namespace + "/" + endName(end) : endName(end);
  const place = end => {
    const work = end.workload ? end.workload.name : end.service || end.node || end.address || "?";
    if (end.kind === "spoofed") return { space: "sends with another’s address", work: endName(end) };
    if (end.namespace) return { space: end.namespace, work };
    const spaces = { node: "nodes", external: "outside the cluster" };
    return { space: spaces[end.kind] || "not identified", work };
  };
  const key = (...parts) => JSON.stringify(parts);

  // === asking the daemon

  class Refused extends Error {}
  const ask = async path => {
    const headers = state.token ? { Authorization: "Bearer " + state.token } : {};
    const answer = await fetch(path, { headers, cache: "no-store", credentials: "same-origin" });
    const body = await answer.json().catch(() => ({}));
    if (answer.status === 401) throw new Refused(body.error || "not authenticated");
    if (!answer.ok) throw new Error(body.error || "the daemon answers " + answer.status);
    return body;
  };
  const askAll = async resource => {
    const rows = [];
    let after = 0, page = null;
    for (let n = 0; n < PAGES; n++) {
      page = await ask("/api/v1/" + resource + "?after=" + after);
      for (const row of page[resource]) rows.push(row);
      if (page.next === undefined) break;
      after = page.next;
    }
    return { rows, truncated: page.truncated };
  };
  const refresh = async () => {
    try {
      // Readiness is worked out anew for each answer, so it is asked for by who looks at it.
      const looked = state.view === "readiness" ? ask("/api/v1/readiness") : null;
      const [node, coverage, flows, findings, readiness] = await Promise.all([ask("/api/v1/node"), ask("/api/v1/coverage"), askAll("flows"), askAll("findings"), looked]);
      state.readiness = readiness || state.readiness;
      const before = state.data && state.data.print;
      const print = JSON.stringify([node.ready, node.pods, coverage.pods, coverage.watches.map(watch => [watch.resource, watch.state]), state.readiness && state.readiness.workloads.map(work => ({ ...work, observed_seconds: 0 })), flows.rows, findings.rows]);
      state.data = { node, coverage, flows: flows.rows, findings: findings.rows, truncated: flows.truncated || findings.truncated, print };
      $("login").hidden = true;
      say("");
      head();
      if (before !== print) draw();
    } catch (error) {
      const refused = error instanceof Refused;
      $("login").hidden = !refused;
      pill("no answer", "bad");
      say(refused ? error.message : "Cannot read the daemon: " + error.message + ". Trying again.");
    }
  };
  const say = text => { $("trouble").hidden = !text; $("trouble").textContent = text; };
  const pill = (text, tone) => { $("state").textContent = text; $("state").className = "pill " + tone; };

  // === what is shown of it

  const matches = row => state.words.every(word => row.text.includes(word));
  const searchable = (...parts) => parts.filter(Boolean).join(" ").toLowerCase();
  const ofEnd = end => searchable(end.namespace, end.pod, end.service, end.node, end.address, end.service_account, end.kind, end.workload && end.workload.name);
  const flowsShown = () => state.data.flows
    .filter(flow => state.shown.has(flow.verdict) || !VERDICTS.includes(flow.verdict))
    .map(flow => ({ flow, text: ofEnd(flow.client) + " " + ofEnd(flow.server) + " " + searchable(flow.verdict, flow.protocol, String(flow.port), flow.evidence.join(" "), (flow.methods || []).join(" ")) }))
    .filter(matches).map(row => row.flow);
  const findingsShown = () => state.data.findings
    .filter(finding => state.shown.has(finding.verdict) || !VERDICTS.includes(finding.verdict))
    .map(finding => ({ finding, text: ofEnd(finding.client) + " " + ofEnd(finding.server) + " " + searchable(finding.id, finding.severity, finding.why, finding.protocol, String(finding.port)) }))
    .filter(matches).map(row => row.finding)
    .sort((a, b) => SEVERITIES.indexOf(a.severity) - SEVERITIES.indexOf(b.severity) || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0));

  const head = () => {
    const { node, coverage, flows, findings } = state.data;
    $("node").textContent = "node " + node.node + " · " + node.trust_domain;
    pill(node.ready ? "observing" : "waiting for " + node.waiting_for.join(", "), node.ready ? "good" : "bad");
    $("foot").textContent = "Plainsight " + node.version + " · observing since " + (node.observed_since ? when(node.observed_since) : "—") + " · read " + new Date().toLocaleTimeString() + (state.data.truncated ? " · the daemon had more than is shown" : "");
    const count = verdict => flows.filter(flow => flow.verdict === verdict).reduce((sum, flow) => sum + flow.count, 0);
    const bad = findings.filter(finding => finding.severity === "critical" || finding.severity === "high").length;
    const total = node.pods.observed + node.pods.not_observed;
    const failing = coverage.watches.filter(watch => watch.state === "failing" || watch.state === "forbidden").length;
    const mcp = flows.filter(flow => flow.verdict === "plaintext" && flow.protocol === "mcp").reduce((sum, flow) => sum + flow.count, 0);
    const card = (value, label, tone) => el("div", { class: "card " + (tone || "") }, el("b", {}, value), el("span", { class: "quiet" }, label));
    $("cards").replaceChildren(
      card(number(bad), "critical and high findings", bad ? "alarm" : "fine"),
      card(number(mcp), "plaintext MCP connections", mcp ? "alarm" : "fine"),
      card(number(count("mesh-mtls") + count("tls")), "encrypted connections"),
      card(node.pods.observed + " of " + total, "pods observed", node.pods.not_observed ? "" : "fine"),
      card(!coverage.watches.length ? "none" : failing ? number(failing) + " failing" : "well", "watches of the Kubernetes API", failing ? "alarm" : coverage.watches.length ? "fine" : ""));
    $("count-findings").textContent = findings.length ? number(findings.length) : "";
    $("count-flows").textContent = flows.length ? number(flows.length) : "";
  };

  const draw = () => {
    if (!state.data) return;
    const focused = document.activeElement && document.activeElement.getAttribute("data-key");
    const views = { map: drawMap, findings: drawFindings, flows: drawFlows, readiness: drawReadiness, coverage: drawCoverage };
    for (const view of Object.keys(views)) $("view-" + view).hidden = view !== state.view;
    for (const tab of $("tabs").children) {
      const selected = tab.dataset.view === state.view;
      tab.setAttribute("aria-selected", String(selected));
      tab.tabIndex = selected ? 0 : -1;
    }
    views[state.view]();
    if (focused) for (const node of $("view-" + state.view).querySelectorAll("[data-key]")) if (node.getAttribute("data-key") === focused) { node.focus({ preventScroll: true }); break; }
  };
  const empty = text => el("div", { class: "empty" }, text);
  const nothing = () => state.words.length || state.shown.size < VERDICTS.length ? "Nothing fits the filter." : "Nothing was seen yet.";

  // === the map

  const graph = flows => {
    const works = new Map(), edges = new Map();
    const work = end => {
      const at = place(end), id = key(at.space, at.work);
      if (!works.has(id)) works.set(id, { id, ...at, out: 0, into: 0, hot: false });
      return works.get(id);
    };
    for (const flow of flows) {
      const from = work(flow.client), to = work(flow.server);
      const verdict = VERDICTS.includes(flow.verdict) ? flow.verdict : "opaque";
      const id = key("edge", from.id, to.id, verdict);
      if (!edges.has(id)) edges.set(id, { id, from, to, verdict, count: 0, flows: [] });
      const edge = edges.get(id);
      edge.count += flow.count;
      edge.flows.push(flow);
    }
    const sorted = [...edges.values()].sort((a, b) => VERDICTS.indexOf(a.verdict) - VERDICTS.indexOf(b.verdict) || b.count - a.count);
    const kept = sorted.slice(0, MAP_EDGES), used = new Set();
    for (const edge of kept) {
      edge.from.out++; edge.to.into++;
      if (edge.verdict === "plaintext") edge.to.hot = true;
      used.add(edge.from.id); used.add(edge.to.id);
    }
    return { works: [...works.values()].filter(work => used.has(work.id)), edges: kept, left: sorted.length - kept.length };
  };

  const WIDTH = 190, HEIGHT = 34, GAP = 12, PAD = 14, TITLE = 26, BETWEEN = 120, MARGIN = 24;
  // Callers stand left, servers right, those that are both between; within a column by namespace.
  const layout = works => {
    const columns = [[], [], []];
    for (const work of works) columns[work.into === 0 ? 0 : work.out === 0 ? 2 : 1].push(work);
    const filled = columns.filter(column => column.length);
    const boxes = [];
    let height = 0;
    filled.forEach((column, index) => {
      const x = MARGIN + index * (WIDTH + 2 * PAD + BETWEEN);
      const spaces = new Map();
      for (const work of column) spaces.set(work.space, [...(spaces.get(work.space) || []), work]);
      let y = MARGIN;
      for (const [name, members] of [...spaces].sort((a, b) => a[0] < b[0] ? -1 : 1)) {
        members.sort((a, b) => a.work < b.work ? -1 : 1);
        const box = { name, x, y, width: WIDTH + 2 * PAD, height: TITLE + members.length * (HEIGHT + GAP) + PAD - GAP + 4, index };
        members.forEach((work, row) => { work.x = x + PAD; work.y = y + TITLE + 4 + row * (HEIGHT + GAP); work.column = index; });
        boxes.push(box);
        y += box.height + 20;
      }
      height = Math.max(height, y);
    });
    for (const column of new Set(boxes.map(box => box.index))) {
      const own = boxes.filter(box => box.index === column), last = own[own.length - 1];
      const shift = (height - (last.y + last.height + 20)) / 2;
      for (const box of own) box.y += shift;
      for (const work of works) if (work.column === column) work.y += shift;
    }
    return { boxes, width: MARGIN * 2 + filled.length * (WIDTH + 2 * PAD) + (filled.length - 1) * BETWEEN, height: height + 4 };
  };
  const spread = (edges, side) => {
    const at = new Map();
    for (const edge of edges) { const id = edge[side].id; at.set(id, [...(at.get(id) || []), edge]); }
    for (const own of at.values()) own.forEach((edge, index) => { edge[side + "Y"] = HEIGHT * (index + 1) / (own.length + 1); });
  };
  const wire = edge => {
    const forward = edge.to.column > edge.from.column;
    const sx = forward ? edge.from.x + WIDTH : edge.from.x + WIDTH, sy = edge.from.y + edge.fromY;
    const tx = forward ? edge.to.x - 7 : edge.to.x + WIDTH + 7, ty = edge.to.y + edge.toY;
    const bend = forward ? Math.max(50, (tx - sx) / 2) : 70;
    const path = forward ? `M${sx} ${sy}C${sx + bend} ${sy} ${tx - bend} ${ty} ${tx} ${ty}` : `M${sx} ${sy}C${sx + bend} ${sy} ${tx + bend} ${ty} ${tx} ${ty}`;
    const tip = forward ? `M${tx + 6} ${ty}l-9 -5v10Z` : `M${tx - 6} ${ty}l9 -5v10Z`;
    return { path, tip };
  };
  const drawMap = () => {
    const { works, edges, left } = graph(flowsShown());
    if (!works.length) { $("canvas").replaceChildren(empty(nothing())); return detail(null); }
    const { boxes, width, height } = layout(works);
    spread(edges, "from"); spread(edges, "to");
    const chosen = [...works, ...edges].find(item => item.id === state.chosen) || null;
    const near = item => !chosen || item === chosen || (chosen.from ? item === chosen.from || item === chosen.to : item.from ? item.from === chosen || item.to === chosen : edges.some(edge => (edge.from === chosen && edge.to === item) || (edge.to === chosen && edge.from === item)));
    const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": "Who talks to whom" });
    for (const box of boxes) root.append(svg("rect", { class: "space", x: box.x, y: box.y, width: box.width, height: box.height, rx: 12 }), titled(svg("text", { class: "space-name", x: box.x + PAD, y: box.y + 19 }), box.name, 30));
    const active = (node, item, label) => {
      node.setAttribute("tabindex", "0");
      node.setAttribute("role", "button");
      node.setAttribute("aria-label", label);
      node.setAttribute("data-key", item.id);
      node.setAttribute("aria-pressed", String(item === chosen));
      if (!near(item)) node.classList.add("faint");
      if (item === chosen) node.classList.add("chosen");
      const choose = () => { state.chosen = state.chosen === item.id ? null : item.id; draw(); };
      node.addEventListener("click", choose);
      node.addEventListener("keydown", event => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); choose(); } });
      return node;
    };
    for (const edge of [...edges].reverse()) {
      const { path, tip } = wire(edge);
      const thick = Math.min(6, 1.6 + Math.log10(1 + edge.count));
      const node = svg("g", { class: "edge " + edge.verdict }, svg("path", { class: "touch", d: path }), svg("path", { class: "wire", d: path, "stroke-width": thick }), svg("path", { class: "tip", d: tip }));
      root.append(active(node, edge, `${edge.from.work} to ${edge.to.work}, ${edge.verdict}, ${number(edge.count)} connections`));
    }
    for (const work of works) {
      const node = svg("g", { class: "work" + (work.hot ? " hot" : "") }, svg("rect", { x: work.x, y: work.y, width: WIDTH, height: HEIGHT, rx: 8 }), titled(svg("text", { x: work.x + 12, y: work.y + 22 }), work.work, 25));
      root.append(active(node, work, `${work.work} in ${work.space}`));
    }
    $("canvas").replaceChildren(root);
    if (left > 0) $("canvas").append(el("p", { class: "empty" }, `${number(left)} more arrows are not drawn: filter for what matters.`));
    detail(chosen, edges);
  };
  const titled = (node, text, length) => {
    node.textContent = cut(text, length);
    if (text.length > length) { const title = svg("title"); title.textContent = text; node.append(title); }
    return node;
  };
  const detail = (chosen, edges = []) => {
    const help = el("p", { class: "quiet" }, "Choose a workload or an arrow to see what goes over it. Tab moves, Enter chooses, Esc lets go.");
    if (!chosen) return $("detail").replaceChildren(help);
    const flows = chosen.from ? chosen.flows : edges.filter(edge => edge.from === chosen || edge.to === chosen).flatMap(edge => edge.flows);
    const list = el("ul");
    for (const flow of flows.slice(0, 40)) list.append(el("li", {},
      el("div", {}, verdict(flow), " " + what(flow) + " · " + number(flow.count)),
      el("div", { class: "quiet" }, full(flow.client) + " → " + full(flow.server) + ":" + flow.port),
      flow.with_credentials ? el("div", { class: "severity critical" }, number(flow.with_credentials) + " with credentials") : ""));
    const name = chosen.from ? chosen.from.work + " → " + chosen.to.work : chosen.work;
    $("detail").replaceChildren(el("h2", {}, name), list, ...(flows.length > 40 ? [el("p", { class: "quiet" }, `and ${number(flows.length - 40)} more`)] : []));
  };
  const verdict = flow => el("span", { class: "dot v-" + (VERDICTS.includes(flow.verdict) ? flow.verdict : "opaque") });
  const what = flow => flow.verdict === "plaintext" ? "plaintext " + flow.protocol : flow.verdict;

  // === findings, flows, readiness, coverage

  // What is opened stays open when the page is drawn again.
  const folded = (id, title, ...children) => {
    const more = el("details", {}, el("summary", { "data-key": id + "more" }, title), ...children);
    more.open = state.opened.has(id);
    more.addEventListener("toggle", () => { state.opened[more.open ? "add" : "delete"](id); });
    return more;
  };
  const drawFindings = () => {
    const shown = findingsShown();
    if (!shown.length) return $("view-findings").replaceChildren(el("div", { class: "panel empty" }, state.data.findings.length ? nothing() : "No findings: nothing to fix on this node."));
    const cards = shown.slice(0, ROWS).map(finding => {
      const id = key("finding", finding.id, finding.client, finding.server.address, finding.port);
      const copy = el("button", { class: "copy", type: "button", "data-key": id + "copy" }, "Copy the fix");
      copy.addEventListener("click", async () => {
        let done = false;
        try { await navigator.clipboard.writeText(finding.fix); done = true; } catch (_refused) { done = byHand(finding.fix); }
        copy.textContent = done ? "Copied" : "Select and copy by hand";
        setTimeout(() => { copy.textContent = "Copy the fix"; }, 2000);
      });
      const more = folded(id, "How to fix it", el("pre", { tabindex: "0" }, finding.fix), copy);
      return el("article", { class: "panel finding " + finding.severity },
        el("div", { class: "top" }, el("span", { class: "severity " + finding.severity }, finding.severity), el("h3", {}, finding.id), el("span", { class: "quiet" }, number(finding.count) + " connections, last " + ago(finding.last_seen) + " ago")),
        el("p", { class: "route" }, verdict(finding), " " + full(finding.client) + " → " + full(finding.server) + ":" + finding.port + " · " + what(finding)),
        el("p", {}, finding.why),
        finding.decided_by ? el("p", { class: "quiet" }, "Decided by " + finding.decided_by) : "",
        more);
    });
    if (shown.length > ROWS) cards.push(empty(`${number(shown.length - ROWS)} more: filter for what matters.`));
    $("view-findings").replaceChildren(...cards);
  };
  // In a page without TLS the clipboard is not to be had, but a selection is.
  const byHand = text => {
    const area = el("textarea", { class: "unseen" });
    area.value = text;
    document.body.append(area);
    area.select();
    let done = false;
    try { done = document.execCommand("copy"); } catch (_refused) { done = false; }
    area.remove();
    return done;
  };
  const table = (heads, rows) => el("div", { class: "scroll" }, el("table", {},
    el("thead", {}, el("tr", {}, ...heads.map(([text, cls]) => el("th", { class: cls || "", scope: "col" }, text)))),
    el("tbody", {}, ...rows)));
  const drawFlows = () => {
    const shown = flowsShown().sort((a, b) => VERDICTS.indexOf(a.verdict) - VERDICTS.indexOf(b.verdict) || b.count - a.count);
    if (!shown.length) return $("view-flows").replaceChildren(el("div", { class: "panel empty" }, nothing()));
    const rows = shown.slice(0, ROWS).map(flow => el("tr", {},
      el("td", {}, verdict(flow), " " + what(flow)), el("td", { class: "wrap" }, full(flow.client)), el("td", { class: "wrap" }, full(flow.server) + ":" + flow.port),
      el("td", { class: "number" }, number(flow.count)), el("td", { class: "number" }, number(flow.with_credentials)), el("td", {}, ago(flow.last_seen) + " ago"), el("td", { class: "wrap" }, [...(flow.methods || []), ...(flow.sni || [])].join(", "))));
    const parts = [table([["What"], ["Client"], ["Server"], ["Connections", "number"], ["Credentials", "number"], ["Last"], ["Methods, server names"]], rows)];
    if (shown.length > ROWS) parts.push(empty(`${number(shown.length - ROWS)} more: filter for what matters.`));
    $("view-flows").replaceChildren(...parts);
  };
  // Whether workloads may go to STRICT, by what this node saw.
  const ANSWERS = {
    blocked: ["plaintext", "STRICT would refuse calls"], ready: ["mesh-mtls", "may go to STRICT"], done: ["mesh-mtls", "is STRICT"],
    "not-yet": ["tls", "nothing against it yet"], "not-observed": ["opaque", "not all of it is observed"], "no-proxy": ["opaque", "no proxy would enforce it"] };
  const drawReadiness = () => {
    if (!state.readiness) return $("view-readiness").replaceChildren(el("div", { class: "panel empty" }, "Asking the daemon."));
    const { workloads, notes, quiet_seconds } = state.readiness;
    const order = Object.keys(ANSWERS);
    const shown = workloads.map(work => ({ work, text: searchable(work.namespace, work.kind, work.name, work.answer, work.declared, ...work.breaks.map(call => call.client)) })).filter(matches).map(row => row.work)
      .sort((a, b) => Number(b.mcp) - Number(a.mcp) || order.indexOf(a.answer) - order.indexOf(b.answer));
    const rows = shown.slice(0, ROWS).map(work => {
      const [tone, text] = ANSWERS[work.answer] || ["opaque", work.answer];
      const id = key("readiness", work.namespace, work.kind, work.name);
      const why = el("td", { class: "wrap" });
      for (const call of work.breaks) why.append(el("div", {}, `${call.client}${call.port ? " on port " + call.port : ""}: ${call.traffic}${call.connections ? ", " + number(call.connections) + " connections" : ""}${call.last_seen ? ", last " + ago(call.last_seen) + " ago" : ""}`, el("div", { class: "quiet" }, call.advice)));
      for (const note of work.notes) why.append(el("div", { class: "quiet" }, note));
      if (work.next) why.append(folded(id, "The next step", el("pre", { tabindex: "0" }, work.next)));
      return el("tr", {},
        el("td", {}, el("span", { class: "dot v-" + tone }), " " + text),
        el("td", { class: "wrap" }, work.namespace + "/" + work.name, el("div", { class: "quiet" }, work.kind + (work.mcp ? " · MCP" : ""))),
        el("td", { class: "wrap" }, work.declared || "nothing", work.decided_by ? el("div", { class: "quiet" }, work.decided_by) : ""), why);
    });
    const about = `By what this node saw of its own pods; a yes takes ${Math.round(quiet_seconds / 86400)} days without a call that STRICT would refuse.`;
    const parts = [el("p", { class: "quiet about" }, [about, ...notes].join(" ")),
      rows.length ? table([["May it go to STRICT?"], ["Workload"], ["Declared"], ["Why"]], rows) : el("div", { class: "panel empty" }, workloads.length ? nothing() : "No workloads of this node are known.")];
    if (shown.length > ROWS) parts.push(empty(`${number(shown.length - ROWS)} more: filter for what matters.`));
    $("view-readiness").replaceChildren(...parts);
  };
  const drawCoverage = () => {
    const { pods, watches, truncated } = state.data.coverage;
    const shown = pods.map(pod => ({ pod, text: searchable(pod.namespace, pod.pod, pod.interface, pod.reason) })).filter(matches).map(row => row.pod)
      .sort((a, b) => Number(a.observed) - Number(b.observed));
    const rows = shown.slice(0, ROWS).map(pod => el("tr", {},
      el("td", {}, el("span", { class: "dot v-" + (pod.observed ? "mesh-mtls" : "plaintext") }), pod.observed ? " observed" : " not observed"),
      el("td", { class: "wrap" }, pod.namespace + "/" + pod.pod), el("td", {}, pod.interface || "—"), el("td", { class: "wrap" }, pod.reason ? pod.reason + ": " + pod.advice : "")));
    const parts = [rows.length ? table([["State"], ["Pod"], ["Interface"], ["Why not"]], rows) : el("div", { class: "panel empty" }, pods.length ? nothing() : "No pods of this node are known.")];
    if (truncated || shown.length > ROWS) parts.push(empty("There are more pods than are shown."));
    if (watches.length) parts.push(el("h2", { class: "sub" }, "Watches of the Kubernetes API"), table([["Resource"], ["State"], ["Last word", "number"]], watches.map(watch => el("tr", {},
      el("td", {}, watch.resource), el("td", {}, watch.state), el("td", { class: "number" }, watch.stale_seconds + " s ago")))));
    $("view-coverage").replaceChildren(...parts);
  };

  // === what the reader does

  const show = view => {
    state.view = view;
    history.replaceState(null, "", "#" + view);
    draw();
    if (view === "readiness" && !(state.paused && state.readiness)) refresh();
  };
  for (const tab of $("tabs").children) tab.addEventListener("click", () => show(tab.dataset.view));
  $("tabs").addEventListener("keydown", event => {
    const tabs = [...$("tabs").children], at = tabs.indexOf(document.activeElement);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    const tab = tabs[(to + tabs.length) % tabs.length];
    show(tab.dataset.view);
    tab.focus();
  });
  for (const name of VERDICTS) {
    const box = el("input", { type: "checkbox", value: name });
    box.checked = true;
    box.addEventListener("change", () => { state.shown[box.checked ? "add" : "delete"](name); draw(); });
    $("chips").append(el("label", {}, box, el("span", { class: "dot v-" + name }), name));
  }
  $("filter").addEventListener("input", () => { state.words = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean); draw(); });
  $("pause").addEventListener("click", () => {
    state.paused = !state.paused;
    $("pause").setAttribute("aria-pressed", String(state.paused));
    $("pause").textContent = state.paused ? "Paused" : "Pause";
    if (!state.paused) refresh();
  });
  $("login").addEventListener("submit", event => { event.preventDefault(); state.token = $("token").value.trim(); $("token").value = ""; refresh(); });
  document.addEventListener("keydown", event => {
    const typing = event.target instanceof HTMLInputElement && event.target.type !== "checkbox";
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) { event.preventDefault(); $("filter").focus(); }
    if (event.key === "Escape") {
      if (event.target === $("filter")) { $("filter").value = ""; state.words = []; }
      state.chosen = null;
      draw();
    }
  });
  const asked = location.hash.slice(1);
  if ($("view-" + asked)) state.view = asked;
  for (const tab of $("tabs").children) { tab.tabIndex = tab.dataset.view === state.view ? 0 : -1; tab.setAttribute("aria-selected", String(tab.dataset.view === state.view)); }
  // A tab that nobody sees asks for nothing, and has old news when it comes back.
  document.addEventListener("visibilitychange", () => { if (!document.hidden && !state.paused) refresh(); });
  const tick = async () => { if (!state.paused && !document.hidden) await refresh(); setTimeout(tick, EVERY); };
  tick();
})();
