// The page's live part: once a second it asks for the numbers and shows them; buttons and switches are requests to the
// same API that curl would use.

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const text = (node, value) => { if (node.textContent !== value) node.textContent = value; };
const count = (n) => n.toLocaleString("en");
const millis = (ms) => ms >= 1000 ? (ms / 1000).toFixed(1) + " s" : ms >= 10 ? Math.round(ms) + " ms" : ms.toFixed(1) + " ms";
const announce = (what) => text($("#announce"), what);

async function ask(path, body) {
  const options = body === undefined ? {} : { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
  const response = await fetch(path, { ...options, signal: AbortSignal.timeout(8000) });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error.message);
  return answer;
}

// ---- numbers

function showSide(name, s, rate, top) {
  const card = document.getElementById(name), w = s.window.counts, t = s.total;
  // Calls that hang have not failed yet, but they are not served either. Half a second's worth is under way on a good day.
  const stuck = Math.max(0, s.waiting - Math.max(10, rate / 2)), calls = w.ok + w.failed + w.fallback;
  const all = calls + stuck, lost = all ? (w.failed + stuck) / all : 0, fallback = all ? w.fallback / all : 0;
  // 99.96 % must not look like all of them.
  const served = !all ? "–" : lost === 0 ? "100 %" : Math.min(99.9, Math.floor(1000 * (1 - lost)) / 10).toFixed(1) + " %";
  text($(".served", card), served);
  text($(".verdict", card), fallback > 0.005 ? `of calls served in the last 10 s, ${Math.round(100 * fallback)} % from the fallback` : "of calls served in the last 10 s");
  card.dataset.health = lost > 0.002 ? "hurt" : fallback > 0.005 ? "degraded" : "calm";
  const mini = $(`.mini [data-of="${name}"]`);
  text(mini, served);
  mini.dataset.health = card.dataset.health;
  for (const key of ["ok", "failed", "fallback", "retried"]) text($("." + key, card), count(t[key]));
  text($(".goodput", card), Math.round(s.window.goodput) + "/s");
  text($(".p50", card), calls ? millis(s.window.p50) : "–");
  text($(".p99", card), calls ? millis(s.window.p99) : "–");
  text($(".waiting", card), count(s.waiting));
  $(".n-failed", card).classList.toggle("hot", w.failed > 0);
  $(".n-fallback", card).classList.toggle("hot", w.fallback > 0);
  $(".n-waiting", card).classList.toggle("hot", stuck > 0);
  const worst = Object.entries(s.reasons).sort((a, b) => b[1] - a[1]).slice(0, 2).map(([why, n]) => `${count(n)} × ${why}`).join(", ");
  text($(".reason", card), worst ? "So far: " + worst : "\u00a0");
  chart($(".chart", card), s.history, top);
}

// Stacked areas over up to two minutes, now at the right; top is the height that both charts share.
function chart(svg, history, top) {
  const seconds = Math.max(30, history.length);
  text($(".since", svg.parentElement), seconds >= 120 ? "2 min ago" : seconds + " s ago");
  const x = (i) => (600 * (i + seconds - history.length)) / (seconds - 1);
  const y = (v) => 120 - (116 * v) / top;
  const base = history.map(() => 0);
  for (const kind of ["ok", "fallback", "failed"]) {
    let up = "", down = "";
    history.forEach((p, i) => {
      down = `L${x(i).toFixed(1)} ${y(base[i]).toFixed(1)}` + down;
      base[i] += p[kind];
      up += `${i ? "L" : "M"}${x(i).toFixed(1)} ${y(base[i]).toFixed(1)}`;
    });
    $(".a-" + kind, svg).setAttribute("d", history.length > 1 ? up + down + "Z" : "");
  }
  const last = history[history.length - 1];
  if (last) svg.setAttribute("aria-label", `Calls per second, now: ${last.ok} ok, ${last.fallback} from the fallback, ${last.failed} failed`);
}

// ---- nodes

const eyes = {
  ready: "Hull uses it", suspect: "Hull avoids it: it has gone silent", ejected: "Hull has ejected it", down: "Hull avoids it: unreachable",
  draining: "it is leaving", absent: "gone from discovery", unmatched: "Hull leaves it out",
};

function showNodes(stats) {
  const share = (side, id) => {
    const all = Object.values(side.window.nodes).reduce((a, b) => a + b, 0);
    return all ? (side.window.nodes[id] || 0) / all : 0;
  };
  let sick = false;
  for (const n of stats.nodes) {
    const card = $(`[data-node="${CSS.escape(n.id)}"]`);
    if (!card) { location.reload(); return; }
    const avoided = n.protected && n.protected !== "ready", wrong = n.state !== "up" || n.faults.length > 0;
    sick ||= wrong;
    const names = { up: n.faults.length ? n.faults.join(" + ") : "up", frozen: "frozen", starting: "starting", down: n.backIn ? `down, back in ${Math.ceil(n.backIn)} s` : "down" };
    text($(".state", card), names[n.state] || n.state);
    card.dataset.state = n.state;
    card.dataset.look = wrong ? "bad" : avoided ? "warn" : "good";
    text($(".sees", card), eyes[n.protected] || n.protected || "\u00a0");
    $(".sees", card).title = n.why || "";
    for (const [name, side] of [["with", stats.protected], ["without", stats.unprotected]]) {
      const part = share(side, n.id);
      $(`.bar.${name} i`, card).style.width = 100 * part + "%";
      text($(".share-" + name, card), Math.round(100 * part) + " %");
    }
    for (const b of $$("[data-fault]", card)) {
      const fault = b.dataset.fault, active = n.faults.includes(fault) || (fault === "crash" && n.state === "down");
      if (fault === "heal") { b.disabled = !wrong; continue; }
      b.setAttribute("aria-pressed", active);
      b.disabled = n.state === "down" || n.state === "starting" || (n.state === "frozen" && fault !== "crash" && !active);
    }
  }
  $("#heal-all").disabled = !sick;
}

function showSwitches(p) {
  for (const b of $$("[data-switch]")) {
    const name = b.dataset.switch;
    b.setAttribute("aria-checked", name === "all" ? Object.values(p).every(Boolean) : p[name]);
  }
}

// ---- rules

function showRules(rules) {
  let broken = 0, judged = 0;
  for (const r of rules) {
    const state = r.broken ? "broken" : r.judged ? "kept" : "idle";
    broken += r.broken > 0;
    judged += r.judged > 0;
    for (const mark of $$(`[data-rule="${r.rule}"]`)) mark.dataset.state = state;
    text($(`#rules [data-rule="${r.rule}"] small`), r.broken ? `broken ${count(r.broken)} times, first ${r.what}` : r.judged ? `kept, ${count(r.judged)} times looked at` : "nothing to judge so far");
  }
  const idle = rules.length - judged, rest = idle ? `, ${idle} with nothing to judge so far` : "";
  text($("#rules-said"), broken ? `${broken} broken, ${judged - broken} kept${rest}` : `none broken: ${judged} kept${rest}`);
  $(".rules").dataset.health = broken ? "hurt" : "calm";
}

// ---- messages

function showMessages(list) {
  const ago = (ms) => {
    const s = Math.max(0, (Date.now() - ms) / 1000);
    return s < 5 ? "just now" : s < 60 ? Math.floor(s) + " s ago" : s < 3600 ? Math.floor(s / 60) + " min ago" : new Date(ms).toLocaleString();
  };
  const item = (m, pending) => {
    const li = document.createElement("li"), p = document.createElement("p"), footer = document.createElement("footer");
    const who = document.createElement("b"), when = document.createElement("span");
    p.textContent = m.text; who.textContent = m.author; when.textContent = pending ? "waits in the outbox" : ago(m.created);
    footer.append(who, " ", when); li.append(p, footer);
    if (pending) li.className = "pending";
    return li;
  };
  $("#messages").replaceChildren(...list.outbox.map((m) => item(m, true)), ...list.messages.map((m) => item(m, false)));
  $("#empty").hidden = list.messages.length + list.outbox.length > 0;
  const banner = $("#banner");
  banner.hidden = !list.fallback;
  banner.dataset.fallback = list.fallback;
  if (list.fallback) {
    const age = list.age ? `from ${Math.round(list.age)} s ago` : "(none are known yet)";
    text(banner, `The backends do not answer. You see the last known messages, ${age}; new ones wait in the outbox.`);
  }
}

async function messages() {
  try {
    showMessages(await ask("/api/messages"));
  } catch (e) {
    const banner = $("#banner");
    banner.hidden = false;
    banner.dataset.fallback = false;
    text(banner, "The messages cannot be read: " + e.message);
  }
}

// ---- the loop

async function tick() {
  const live = $("#link");
  try {
    const stats = await ask("/api/stats");
    live.className = "live";
    text(live, "live");
    const points = [...stats.protected.history, ...stats.unprotected.history];
    const top = Math.max(10, 1.25 * stats.rate, ...points.map((p) => p.ok + p.fallback + p.failed));
    showSide("protected", stats.protected, stats.rate, top);
    showSide("unprotected", stats.unprotected, stats.rate, top);
    showNodes(stats);
    showSwitches(stats.protection);
    showRules(stats.rules);
    if (document.activeElement !== $("#rate")) {
      const rate = String(stats.rate);
      if (![...$("#rate").options].some((o) => o.value === rate)) $("#rate").add(new Option(rate + " calls/s", rate));
      $("#rate").value = rate;
    }
  } catch (e) {
    live.className = "live lost";
    text(live, "the demo has ended");
    announce("No answer from the demo: " + e.message);
  }
}

async function loop(what, every) {
  for (;;) {
    const began = performance.now();
    if (!document.hidden) await what();
    await new Promise((done) => setTimeout(done, Math.max(50, every - (performance.now() - began))));
  }
}

// ---- what people do

async function act(button, what, said) {
  button.disabled = true;
  try {
    await what();
    announce(said);
  } catch (e) {
    announce("Not done: " + e.message);
    text($("#said"), e.message);
  } finally {
    button.disabled = false;
    tick();
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const card = button.closest("[data-node]");
  if (button.id === "heal-all") act(button, () => ask("/api/faults", { node: "all", fault: "heal" }), "all nodes are healed");
  else if (card && button.dataset.fault) {
    const node = card.dataset.node, active = button.getAttribute("aria-pressed") === "true";
    const fault = active ? "heal" : button.dataset.fault;
    act(button, () => ask("/api/faults", { node, fault }), `${fault}: ${node}`);
  } else if (button.dataset.switch) {
    const name = button.dataset.switch, on = button.getAttribute("aria-checked") !== "true";
    act(button, async () => showSwitches(await ask("/api/protection", { [name]: on })), `${name} is ${on ? "on" : "off"}`);
  }
});

$("#rate").addEventListener("change", async (event) => {
  try {
    await ask("/api/load", { rate: Number(event.target.value) });
  } catch (e) {
    announce("Not done: " + e.message);
  }
});

$("#write").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target, said = $("#said"), button = $("button", form);
  button.disabled = true;
  try {
    const r = await ask("/api/messages", { id: form.elements.id.value, author: form.elements.author.value, text: form.elements.text.value });
    said.className = "";
    text(said, r.pending ? "The backends are away: it waits in the outbox." : `Saved by ${r.node}.`);
    form.elements.text.value = "";
    // The next message is another one; until here the same id made trying again safe.
    form.elements.id.value = "m-" + Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, "0")).join("");
    await messages();
  } catch (e) {
    said.className = "bad";
    text(said, e.message);
  } finally {
    button.disabled = false;
  }
});

text($("#origin"), location.host);
loop(tick, 1000);
loop(messages, 1000);
