// The chat page: conversations on the left, the messages of one of them, and what the server tells about its models.
import { currentKey, get, setKey, stream } from "./api.js";
import { compare, summary } from "./beside.js";
import * as store from "./conversations.js";
import { copyText, render } from "./markdown.js";
import { build as buildSampler, presets, settings } from "./sampler.js";

const element = (id) => document.getElementById(id);
const make = (tag, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};

let current = store.list()[0] ?? store.create();
let props = null;
let running = null;  // { controller, node, body } while an answer comes

// Notices

function notice(text) {
  element("notice").textContent = text;
  element("notice").hidden = text === "";
}

function keep() {
  if (!store.save()) notice("This browser has no more room for conversations: export and delete some.");
}

// Conversations

function drawConversations() {
  const words = element("search").value.trim();
  const found = words === "" ? store.list() : store.search(words);
  element("conversations").replaceChildren(...found.map((conversation) => {
    const open = make("button", { className: "open", textContent: conversation.title });
    const rename = make("button", { className: "small", textContent: "✎" });
    const remove = make("button", { className: "small", textContent: "×" });
    rename.setAttribute("aria-label", `Rename ${conversation.title}`);
    remove.setAttribute("aria-label", `Delete ${conversation.title}`);
    if (conversation.id === current.id) open.setAttribute("aria-current", "true");
    open.addEventListener("click", () => choose(conversation));
    rename.addEventListener("click", () => {
      const title = prompt("Name of the conversation", conversation.title);
      if (!title) return;
      conversation.title = title;
      keep();
      draw();
    });
    remove.addEventListener("click", () => {
      if (!confirm(`Delete “${conversation.title}”?`)) return;
      if (running && conversation.id === current.id) running.controller.abort();
      store.remove(conversation.id);
      if (conversation.id === current.id) current = store.list()[0] ?? store.create();
      draw();
    });
    return make("li", { className: conversation.id === current.id ? "current" : "" }, open, rename, remove);
  }));
}

function choose(conversation) {
  if (running) running.controller.abort();
  current = conversation;
  showSidebar(false);
  draw();
  element("input").focus();
}

function showSidebar(open) {
  document.body.classList.toggle("sidebar-open", open);
  element("open-sidebar").setAttribute("aria-expanded", open);
}

// Messages

function fillBody(body, part, role, models) {
  const spans = part.places && !part.asText ? part.places.map((place) => placeElement(place, models))
    : element("show-probabilities").checked && part.tokens ? part.tokens.map(tokenElement) : null;
  body.classList.toggle("tokens", spans !== null);
  if (role === "user") body.textContent = part.content;
  else if (spans) body.replaceChildren(...spans);
  else render(body, part.content);
}

const percent = (probability) => `${(100 * probability).toFixed(1)} %`;

// A token with how far the second model is from the first there.
function placeElement(place, models) {
  const name = place.nats >= 1 ? "far" : place.nats >= 0.2 ? "unlikely" : place.nats >= 0.05 ? "possible" : "";
  const lines = models.map((model, i) => `${model}: ${percent(place.probabilities[i])} (${place.best[i].map(([token, probability]) => `${JSON.stringify(token)} ${percent(probability)}`).join(", ")})`);
  return make("span", { className: `token ${name}`, textContent: place.token, title: [`at least ${place.nats.toFixed(3)} nats apart`, ...lines].join("\n") });
}

function tokenElement(token) {
  const probability = Math.exp(token.logprob);
  const others = (token.top_logprobs ?? []).map((other) => `${JSON.stringify(other.token)} ${percent(Math.exp(other.logprob))}`);
  const name = probability < 0.1 ? "unlikely" : probability < 0.5 ? "possible" : "";
  const part = make("span", { className: `token ${name}`, textContent: token.token, title: [percent(probability), ...others].join("\n") });
  return part;
}

function partElement(part, role, models) {
  const box = make("div", { className: "part" }, make("p", { className: "who", textContent: role === "user" ? "You" : part.model ?? "Model" }));
  if (part.reasoning) box.append(make("details", {}, make("summary", { textContent: "Thinking" }), make("div", { className: "thinking", textContent: part.reasoning })));
  const body = make("div", { className: "body" });
  fillBody(body, part, role, models);
  box.append(body);
  if (part.places?.length) {
    const { mean, farthest } = summary(part.places);
    box.append(make("p", { className: "divergence", textContent: `${models[1]} is at least ${mean.toFixed(3)} nats a token from ${models[0]} here; farthest, ${farthest.nats.toFixed(2)}, at ${JSON.stringify(farthest.token)}` }));
  }
  if (part.error) box.append(make("p", { className: "error", textContent: part.error }));
  if (models.length > 1 && part.note) box.append(make("p", { className: "note", textContent: part.note }));
  return box;
}

function messageElement(node) {
  const parts = store.parts(node);
  const models = parts.map((part) => part.model ?? "Model");
  const columns = make("div", { className: parts.length > 1 ? "columns" : "" }, ...parts.map((part) => partElement(part, node.role, models)));
  const article = make("article", { className: `message ${node.role}${parts.length > 1 ? " wide" : ""}` }, columns, actions(node, columns.querySelector(".body")));
  article.dataset.node = node.id;
  return article;
}

function action(text, label, run) {
  const button = make("button", { textContent: text, type: "button" });
  button.setAttribute("aria-label", label);
  button.addEventListener("click", run);
  return button;
}

function actions(node, body) {
  const bar = make("div", { className: "actions" });
  const branches = store.siblings(current, node);
  if (branches.length > 1) {
    const at = branches.indexOf(node);
    const go = (step) => () => {
      if (running) return;
      store.show(current, branches[(at + step + branches.length) % branches.length]);
      keep();
      draw();
    };
    bar.append(action("‹", "Previous version", go(-1)), `${at + 1} / ${branches.length}`, action("›", "Next version", go(1)));
  }
  bar.append(action("Copy", "Copy the message", () => copyText(node.content)));
  if (node.role === "user") bar.append(action("Edit", "Edit the message", () => edit(node, body)));
  else bar.append(action("Regenerate", "Write another answer", () => !running && answer(node.parent)));
  if (node.places) {
    bar.append(action(node.asText ? "Divergence" : "Text", node.asText ? "Show how far the models are apart" : "Show the answers as text", () => {
      for (const part of store.parts(node)) part.asText = !part.asText;
      keep();
      drawMessages();
    }));
  }
  if (node.note && !node.beside) bar.append(make("span", { textContent: node.note }));
  return bar;
}

function edit(node, body) {
  if (running) return;
  const input = make("textarea", { value: node.content, rows: 4 });
  input.setAttribute("aria-label", "The message");
  const send = action("Send", "Send the changed message", () => {
    const changed = store.add(current, node.parent, "user", input.value);
    answer(changed.id);
  });
  body.replaceChildren(input, make("div", { className: "row" }, send, action("Cancel", "Leave it as it was", draw)));
  input.focus();
}

function drawMessages() {
  const list = element("messages");
  list.replaceChildren(...store.path(current).map(messageElement));
  list.scrollTop = list.scrollHeight;
}

function draw() {
  element("title").textContent = current.title;
  element("system").value = current.system;
  drawConversations();
  drawMessages();
  drawMeter();
}

function drawMeter() {
  const last = store.path(current).findLast((node) => node.usage);
  const model = props?.models.find((one) => one.model === element("model").value);
  if (!last || !model) return void (element("meter").textContent = "");
  const used = last.usage.total_tokens;
  element("meter").textContent = `${used} of ${model.context_length} tokens of the context (${Math.round(100 * used / model.context_length)} %)`;
}

// Answers

function conversationFor(parent) {
  const messages = [];
  for (let id = parent; id !== null; id = current.nodes[id].parent) {
    const { role, content } = current.nodes[id];
    messages.unshift({ role, content });
  }
  if (current.system.trim() !== "") messages.unshift({ role: "system", content: current.system });
  return messages;
}

function showRunning(is) {
  element("send").hidden = is;
  element("stop").hidden = !is;
}

async function answer(parent) {
  if (running) return;
  notice("");
  const conversation = current;
  const node = store.add(conversation, parent, "assistant", "");
  node.model = element("model").value;
  const second = element("beside").value;
  if (second !== "" && second !== node.model) store.addBeside(node, second);
  const controller = new AbortController();
  running = { controller, node };
  showRunning(true);
  draw();
  element("announcement").textContent = "The model is answering.";
  const messages = conversationFor(parent);
  await Promise.all(store.parts(node).map((part) => receive(part, node, messages, controller.signal)));
  if (node.beside) await addPlaces(node, messages, controller.signal);
  finish(conversation, node);
}

// Streams one model's answer into its part of the node.
async function receive(part, node, messages, signal) {
  const probabilities = element("show-probabilities").checked;
  const request = {
    model: part.model, messages, stream: true, stream_options: { include_usage: true }, ...settings(),
    ...(probabilities ? { logprobs: true, top_logprobs: 3 } : {}),
  };
  const begin = performance.now();
  let first = 0;
  let pieces = 0;
  try {
    await stream("/v1/chat/completions", request, signal, (event) => {
      if (event.usage) part.usage = event.usage;
      const choice = event.choices[0];
      if (!choice) return;
      if (choice.logprobs) part.tokens = [...(part.tokens ?? []), ...choice.logprobs.content];
      if (choice.finish_reason === "length") part.cut = true;
      const { content, reasoning_content: reasoning } = choice.delta;
      if (!content && !reasoning) return;
      first ||= performance.now();
      ++pieces;
      part.content += content ?? "";
      part.reasoning += reasoning ?? "";
      drawGrowing(node, pieces, first);
    });
  } catch (error) {
    if (error.name !== "AbortError") part.error = error.message;
  }
  if (!first) return;
  const seconds = (performance.now() - first) / 1000;
  const tokens = part.usage?.completion_tokens ?? pieces;
  const rate = tokens > 1 ? `${((tokens - 1) / seconds).toFixed(1)} tokens/s, ` : "";
  part.note = `${tokens} tokens, ${rate}first after ${((first - begin) / 1000).toFixed(2)} s${part.cut ? ", cut: the limit was reached" : ""}`;
}

// How far the two models are apart along both answers. Thinking is no part of the text that can be compared.
async function addPlaces(node, messages, signal) {
  const parts = store.parts(node);
  if (signal.aborted || parts.some((part) => part.error || part.reasoning || part.content === "")) return;
  element("announcement").textContent = "The answers are compared.";
  try {
    const places = await compare(parts.map((part) => part.model), messages, parts.map((part) => part.content), signal);
    parts.forEach((part, i) => (part.places = places[i]));
  } catch (error) {
    if (error.name !== "AbortError") node.error = error.message;
  }
}

function finish(conversation, node) {
  running = null;
  showRunning(false);
  nameConversation(conversation);
  keep();
  draw();
  const error = store.parts(node).find((part) => part.error)?.error;
  element("announcement").textContent = error ? `The answer failed: ${error}` : "The answer is complete.";
}

function nameConversation(conversation) {
  if (conversation.title !== "New conversation") return;
  const first = Object.values(conversation.nodes).find((node) => node.role === "user");
  if (first) conversation.title = first.content.slice(0, 60).replace(/\s+/g, " ").trim() || conversation.title;
}

let scheduled = false;
// At most once a frame, however fast tokens come.
function drawGrowing(node, pieces, first) {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => {
    scheduled = false;
    const list = element("messages");
    const article = list.querySelector(`[data-node="${node.id}"]`);
    if (!article || running?.node !== node) return;
    const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 80;
    store.parts(node).forEach((part, i) => drawGrowingPart(part, article.querySelectorAll(".part")[i]));
    if (atEnd) list.scrollTop = list.scrollHeight;
    const rate = (pieces - 1) / ((performance.now() - first) / 1000);
    element("meter").textContent = pieces > 1 ? `${rate.toFixed(1)} tokens/s` : "";
  });
}

function drawGrowingPart(part, box) {
  const body = box.querySelector(".body");
  fillBody(body, part, "assistant", []);
  let thinking = box.querySelector(".thinking");
  if (part.reasoning && !thinking) {
    body.before(make("details", { open: true }, make("summary", { textContent: "Thinking" }), make("div", { className: "thinking" })));
    thinking = box.querySelector(".thinking");
  }
  if (thinking) thinking.textContent = part.reasoning;
}

// The model's facts

function number(value, unit = "") {
  if (value === null || value === undefined) return null;
  const steps = [[1e9, "billion"], [1e6, "million"]];
  const [size, word] = steps.find(([least]) => value >= least) ?? [1, ""];
  return `${(value / size).toLocaleString("en", { maximumFractionDigits: size === 1 ? 4 : 2 })} ${word} ${unit}`.trim();
}

const bytes = (value) => value === null ? null : value >= 1e9 ? `${(value / 1e9).toFixed(2)} GB` : `${(value / 1e6).toFixed(1)} MB`;

function drawFacts() {
  const model = props?.models.find((one) => one.model === element("model").value);
  if (!model) return;
  const { facts } = model;
  const rows = {
    "Architecture": facts.architecture, "Parameters": number(facts.parameters), "Recipe": facts.recipe,
    "Bits per ternary weight": facts.nominal_bits_per_weight && `${facts.nominal_bits_per_weight} of information, ${facts.stored_bits_per_weight} stored`,
    "Stored size": bytes(facts.stored_bytes), "Context": `${model.context_length} tokens here, ${facts.trained_context} trained`,
    "Licence": facts.license, "Base model": facts.base_model, "Made from": facts.source, "Runs on": model.device,
    "State": model.loaded ? "loaded" : "on disk; it is loaded when it is asked",
    "Load": model.loaded && `${model.live} of ${model.slots} answers at a time, ${model.queued} of ${model.queue} waiting`,
  };
  const list = make("dl");
  for (const [name, value] of Object.entries(rows)) {
    if (value) list.append(make("dt", { textContent: name }), make("dd", { textContent: value }));
  }
  const body = JSON.stringify({ model: model.model, messages: [{ role: "user", content: "Hello" }] });
  const curl = `curl ${location.origin}/v1/chat/completions -H 'Content-Type: application/json' -d '${body}'`;
  const python = `from openai import OpenAI\n\nclient = OpenAI(base_url="${location.origin}/v1", api_key="none")\nanswer = client.chat.completions.create(model=${JSON.stringify(model.model)},\n    messages=[{"role": "user", "content": "Hello"}])\nprint(answer.choices[0].message.content)`;
  const snippets = make("div", { className: "body" });
  render(snippets, "```bash\n" + curl + "\n```\n```python\n" + python + "\n```");
  element("facts").replaceChildren(make("h2", { textContent: model.model }), list, snippets);
}

async function loadModels() {
  try {
    props = await get("/props");
  } catch (error) {
    notice(error.status === 401 ? "This server asks for an API key: enter it under Settings." : error.message);
    if (error.status === 401) showPanel("settings", true);
    return;
  }
  const chosen = element("model").value || localStorage.getItem("tritllm.model");
  element("model").replaceChildren(...props.models.map((model) => make("option", { value: model.model, textContent: model.model })));
  if (props.models.some((model) => model.model === chosen)) element("model").value = chosen;
  const beside = element("beside").value;
  element("beside").replaceChildren(make("option", { value: "", textContent: "alone" }), ...props.models.map((model) => make("option", { value: model.model, textContent: `beside ${model.model}` })));
  element("beside").value = props.models.some((model) => model.model === beside) ? beside : "";
  element("beside").hidden = props.models.length < 2;
  const set = await buildSampler(element("sampler"), props.models[0]?.sampling_defaults ?? {});
  element("preset").onchange = () => set(presets[element("preset").value]);
  element("reset-sampler").onclick = () => {
    element("preset").selectedIndex = 0;
    set({});
  };
  notice("");
  drawFacts();
  drawMeter();
}

// Controls

function showPanel(name, open) {
  const button = element(`toggle-${name}`);
  element(name).hidden = !open;
  button.setAttribute("aria-expanded", open);
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  localStorage.setItem("tritllm.theme", theme);
}

async function send() {
  const input = element("input");
  const text = input.value.trim();
  if (text === "" || running) return;
  input.value = "";
  const parent = current.leaf;
  const message = store.add(current, parent, "user", text);
  await answer(message.id);
}

element("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
// Enter that ends an input method's composition sends nothing.
element("input").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  event.preventDefault();
  send();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && running) running.controller.abort();
});
element("stop").addEventListener("click", () => running?.controller.abort());
element("new-conversation").addEventListener("click", () => choose(store.create()));
element("search").addEventListener("input", drawConversations);
element("open-sidebar").addEventListener("click", () => showSidebar(true));
element("close-sidebar").addEventListener("click", () => showSidebar(false));
for (const name of ["facts", "settings"]) {
  element(`toggle-${name}`).addEventListener("click", async () => {
    showPanel(name, element(name).hidden);
    if (name === "facts" && !element("facts").hidden) await loadModels();
  });
}
element("theme").addEventListener("click", () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
element("system").addEventListener("change", () => {
  current.system = element("system").value;
  keep();
});
element("model").addEventListener("change", () => {
  localStorage.setItem("tritllm.model", element("model").value);
  drawFacts();
});
element("show-probabilities").addEventListener("change", drawMessages);
element("key").value = currentKey();
element("key").addEventListener("change", () => {
  setKey(element("key").value);
  loadModels();
});
element("export").addEventListener("click", () => {
  const link = make("a", { href: URL.createObjectURL(new Blob([store.exportText()], { type: "application/json" })), download: "conversations.json" });
  link.click();
  URL.revokeObjectURL(link.href);
});
element("import").addEventListener("click", () => element("import-file").click());
element("import-file").addEventListener("change", async () => {
  const [file] = element("import-file").files;
  if (!file) return;
  try {
    notice(`${store.importText(await file.text())} conversations were added.`);
    keep();
    draw();
  } catch (error) {
    notice(`The import failed: ${error.message}`);
  }
  element("import-file").value = "";
});

element("preset").replaceChildren(...Object.keys(presets).map((name) => make("option", { textContent: name })));
setTheme(localStorage.getItem("tritllm.theme") ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));
draw();
loadModels();
