"use strict";
// Figures for people, and elements. What comes from the report becomes text,
// never markup.

const BINARY = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

function significant(value) {
  return value.toFixed(value < 9.995 ? 2 : value < 99.95 ? 1 : 0);
}

function bytes(value) {
  let power = 0;
  while (value >= 1024 ** (power + 1) && power < BINARY.length - 1) power += 1;
  const scaled = value / 1024 ** power;
  return `${Number.isInteger(scaled) ? scaled : significant(scaled)} ${BINARY[power]}`;
}

function count(value) {
  return value.toLocaleString("en-US");
}

function time(ns) {
  const seconds = ns / 1e9;
  if (ns === 0) return "0 s";
  if (seconds < 1e-3) return `${significant(ns / 1e3)} µs`;
  if (seconds < 1) return `${significant(ns / 1e6)} ms`;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} m ${Math.floor(seconds % 60)} s`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds / 60) % 60)} m`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds / 3600) % 24)} h`;
}

// Of a limit: `10.0 ms` is `10 ms`.
function round(text) {
  return text.replace(/\.0+ /, " ").replace(/ 0 [a-z]$/, "");
}

function percent(part, whole) {
  if (!(whole > 0)) return "–";
  const share = (100 * part) / whole;
  return share > 0 && share < 0.1 ? "<0.1 %" : `${share.toFixed(1)} %`;
}

function base(path) {
  return path.slice(path.lastIndexOf("/") + 1) || path;
}

// An element with attributes and children; strings become text.
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function shape(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function byId(id) {
  return document.getElementById(id);
}
