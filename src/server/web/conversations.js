// Conversations, kept in this browser. A conversation is a tree of messages: an edited message or another answer is a branch beside the
// first one, and `leaf` names the end of the branch that is shown.
const place = "tritllm.conversations";
let all = load();

function load() {
  try {
    const read = JSON.parse(localStorage.getItem(place) ?? "[]");
    return Array.isArray(read) ? read.filter(isConversation) : [];
  } catch {
    return [];
  }
}

// What one model wrote.
function isPart(part) {
  return typeof part?.content === "string" && Array.isArray(part.tokens ?? []) && Array.isArray(part.places ?? []) && (part.places ?? []).every(isPlace);
}

// A token of an answer to which two models gave probabilities (beside.js).
function isPlace(place) {
  return typeof place?.token === "string" && typeof place.nats === "number" && [place.probabilities, place.best].every((pair) => Array.isArray(pair) && pair.length === 2) &&
    place.best.every((list) => Array.isArray(list) && list.every((entry) => Array.isArray(entry)));
}

function isNode(node, nodes) {
  return isPart(node) && typeof node.role === "string" && (node.beside === undefined || isPart(node.beside)) &&
    (node.parent === null || Object.hasOwn(nodes, node.parent));
}

// Whether each message leads back to a first one: a file may hold a circle of messages.
function leadsBack(nodes) {
  const known = new Set();
  return Object.keys(nodes).every((begin) => {
    const way = new Set();
    for (let id = begin; id !== null && !known.has(id); id = nodes[id].parent) {
      if (way.has(id)) return false;
      way.add(id);
    }
    way.forEach((id) => known.add(id));
    return true;
  });
}

export function isConversation(value) {
  return typeof value?.id === "string" && typeof value.title === "string" && typeof value.system === "string" &&
    value.nodes !== null && typeof value.nodes === "object" && Object.values(value.nodes).every((node) => isNode(node, value.nodes)) &&
    (value.leaf === null || Object.hasOwn(value.nodes, value.leaf)) && leadsBack(value.nodes);
}

// False where the browser has no more room.
export function save() {
  try {
    localStorage.setItem(place, JSON.stringify(all));
    return true;
  } catch {
    return false;
  }
}

const newId = () => crypto.getRandomValues(new Uint32Array(3)).join("-");

export const list = () => all;
export const find = (id) => all.find((conversation) => conversation.id === id);

export function create() {
  const conversation = { id: newId(), title: "New conversation", changed: Date.now(), system: "", nodes: {}, leaf: null };
  all.unshift(conversation);
  return conversation;
}

export function remove(id) {
  all = all.filter((conversation) => conversation.id !== id);
  save();
}

export function add(conversation, parent, role, content) {
  const node = { id: newId(), parent, role, content, reasoning: "", tokens: null, note: "" };
  conversation.nodes[node.id] = node;
  conversation.leaf = node.id;
  conversation.changed = Date.now();
  return node;
}

// Gives an answer another model's beside it. Conversations go on from the first one.
export function addBeside(node, model) {
  node.beside = { model, content: "", reasoning: "", tokens: null, note: "" };
}

// What the models wrote, the first one's first.
export const parts = (node) => (node.beside ? [node, node.beside] : [node]);

// The messages that are shown, first to last.
export function path(conversation) {
  const messages = [];
  for (let id = conversation.leaf; id !== null && conversation.nodes[id]; id = conversation.nodes[id].parent) {
    messages.unshift(conversation.nodes[id]);
    if (messages.length > 10000) break;
  }
  return messages;
}

export function siblings(conversation, node) {
  return Object.values(conversation.nodes).filter((other) => other.parent === node.parent);
}

// Shows the branch of this node, down to its latest end.
export function show(conversation, node) {
  for (let child = node; child;) {
    conversation.leaf = child.id;
    child = Object.values(conversation.nodes).filter((other) => other.parent === conversation.leaf).pop();
  }
}

export function search(words) {
  const wanted = words.toLowerCase();
  return all.filter((conversation) => conversation.title.toLowerCase().includes(wanted) ||
    Object.values(conversation.nodes).some((node) => node.content.toLowerCase().includes(wanted)));
}

export const exportText = () => JSON.stringify({ tritllm_conversations: 1, conversations: all }, null, 1);

// How many were added. Those that are here already are left as they are.
export function importText(text) {
  const read = JSON.parse(text);
  if (read?.tritllm_conversations !== 1 || !Array.isArray(read.conversations) || !read.conversations.every(isConversation)) {
    throw new Error("the file holds no conversations of this page");
  }
  const added = read.conversations.filter((conversation) => !find(conversation.id));
  all = [...added, ...all];
  return added.length;
}
