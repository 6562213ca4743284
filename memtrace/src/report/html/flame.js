// The flame graph: a tree of all stacks, of which one node fills the width.

const ROW = 18;
// Narrower frames cannot be seen, let alone hit.
const NARROWEST = 0.0008;

class Call {
  constructor(name, place, hue, parent) {
    Object.assign(this, { name, place, hue, parent, values: [0, 0], children: new Map() });
    // Neighbours in one file are told apart.
    this.shade = digest(name, 10);
    this.depth = parent ? parent.depth + 1 : 0;
  }
  child(key, name, place, hue) {
    let child = this.children.get(key);
    if (!child) this.children.set(key, (child = new Call(name, place, hue, this)));
    return child;
  }
  sorted(metric) {
    return [...this.children.values()].sort((a, b) => b.values[metric] - a.values[metric]);
  }
}

// The same number for the same text, in every report: files and functions keep
// their colours.
function digest(text, range) {
  let hash = 2166136261;
  for (let at = 0; at < text.length; at += 1) hash = Math.imul(hash ^ text.charCodeAt(at), 16777619);
  return (hash >>> 0) % range;
}

function tree(report) {
  const root = new Call("all", "", 210, null);
  const several = report.processes.length > 1;
  for (const stack of report.stacks) {
    const values = [stack.bytes, stack.count];
    const path = [];
    if (several) path.push([`p${stack.pid}`, `${stack.comm} (${stack.pid})`, "", 0]);
    if (stack.truncated) path.push(["[truncated]", "[truncated]", "who called further out is not known", 0]);
    if (stack.frames.length === 0) path.push(["[unknown]", "[unknown]", "", 0]);
    for (const frame of [...stack.frames].reverse()) {
      path.push([`${frame.name}\n${frame.module}`, frame.name, frame.place, digest(frame.module, 360)]);
    }
    let node = root;
    const add = (to) => values.forEach((value, metric) => (to.values[metric] += value));
    add(root);
    for (const [key, name, place, colour] of path) {
      node = node.child(key, name, place, colour);
      add(node);
    }
  }
  return root;
}

class Flame {
  constructor(place, report, tell) {
    Object.assign(this, { place, tell, metric: 0, flame: false, wanted: "" });
    this.root = tree(report);
    this.zoomed = this.root;
    this.focused = this.root;
    this.buttons = new Map();
    place.addEventListener("keydown", (event) => this.key(event));
    this.draw();
  }

  // Frames from the outermost to the zoomed one have the whole width.
  layout() {
    const rows = [];
    for (let node = this.zoomed.parent; node; node = node.parent) rows.push([node, 0, 1, true]);
    const all = this.zoomed.values[this.metric];
    const visit = (node, left, width) => {
      rows.push([node, left, width, false]);
      let at = left;
      for (const child of node.sorted(this.metric)) {
        const share = all > 0 ? child.values[this.metric] / all : 0;
        if (share < NARROWEST) break;
        visit(child, at, share);
        at += share;
      }
    };
    visit(this.zoomed, 0, 1);
    return rows;
  }

  draw() {
    const rows = this.layout();
    const deepest = rows.reduce((most, [node]) => Math.max(most, node.depth), 0);
    this.buttons.clear();
    this.place.style.height = `${(deepest + 1) * ROW}px`;
    const buttons = rows.map(([node, left, width, above]) => {
      const button = element("button", { type: "button", role: "treeitem", tabindex: "-1", "aria-level": node.depth + 1 }, node.name);
      const row = this.flame ? deepest - node.depth : node.depth;
      Object.assign(button.style, {
        left: `${left * 100}%`, width: `${width * 100}%`, top: `${row * ROW}px`,
        background: `hsl(${node.hue} 55% calc(var(--frame-light) - ${node.shade}%))`,
      });
      button.title = this.describe(node);
      button.classList.toggle("above", above);
      button.classList.toggle("hit", this.hits(node));
      button.addEventListener("click", () => this.zoom(node));
      button.addEventListener("focus", () => this.select(node));
      button.addEventListener("mouseenter", () => this.tell.details(this.describe(node)));
      this.buttons.set(node, button);
      return button;
    });
    this.place.replaceChildren(...buttons);
    if (!this.buttons.has(this.focused)) this.focused = this.zoomed;
    this.buttons.get(this.focused).tabIndex = 0;
    this.tell.zoomed(this.zoomed !== this.root);
    this.tell.matched(this.matched());
  }

  describe(node) {
    const [size, blocks] = node.values;
    const share = percent(node.values[this.metric], this.root.values[this.metric]);
    const place = node.place ? `, ${node.place}` : "";
    return `${node.name}${place}: ${bytes(size)} in ${count(blocks)} ${blocks === 1 ? "block" : "blocks"}, ${share}`;
  }

  hits(node) {
    return this.wanted !== "" && `${node.name} ${node.place}`.toLowerCase().includes(this.wanted);
  }

  // What frames that match hold, each byte once.
  matched() {
    if (this.wanted === "") return "";
    const sum = (node) => {
      if (this.hits(node)) return node.values[this.metric];
      return [...node.children.values()].reduce((all, child) => all + sum(child), 0);
    };
    const found = sum(this.root);
    const amount = this.metric === 0 ? bytes(found) : `${count(found)} blocks`;
    return `matched: ${amount}, ${percent(found, this.root.values[this.metric])}`;
  }

  select(node) {
    const before = this.buttons.get(this.focused);
    if (before) before.tabIndex = -1;
    this.focused = node;
    this.buttons.get(node).tabIndex = 0;
    this.tell.details(this.describe(node));
  }

  zoom(node) {
    const had = this.place.contains(document.activeElement);
    this.zoomed = node;
    this.focused = node;
    this.draw();
    if (had) this.buttons.get(node).focus();
  }

  search(text) {
    this.wanted = text.trim().toLowerCase();
    this.draw();
  }

  turn() {
    this.flame = !this.flame;
    this.draw();
  }

  measure(metric) {
    this.metric = metric;
    this.draw();
  }

  key(event) {
    const node = this.focused;
    const shown = (list) => list.filter((other) => this.buttons.has(other));
    const among = node.parent ? shown(node.parent.sorted(this.metric)) : [node];
    const at = among.indexOf(node);
    const [inward, outward] = this.flame ? ["ArrowUp", "ArrowDown"] : ["ArrowDown", "ArrowUp"];
    const moves = {
      [inward]: () => shown(node.sorted(this.metric))[0],
      [outward]: () => node.parent,
      ArrowLeft: () => among[at - 1],
      ArrowRight: () => among[at + 1],
      Home: () => this.root,
    };
    if (!(event.key in moves)) return;
    event.preventDefault();
    const next = moves[event.key]();
    if (next && this.buttons.has(next)) this.buttons.get(next).focus();
  }
}
