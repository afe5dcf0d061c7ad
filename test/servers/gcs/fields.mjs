/** Partial responses: `items(name,size),nextPageToken`, `metadata/mode`, `*`. https://cloud.google.com/storage/docs/json_api#partial-response */
import { Refusal } from './refusal.mjs';

/** @param {string} text @returns {Map<string, Map>} */
function parse(text) {
  let at = 0;
  const list = () => {
    const found = new Map();
    for (;;) {
      const name = /^[\w*-]+/.exec(text.slice(at))?.[0];
      if (name === undefined) throw new Refusal(400, `Invalid field selection ${text}`);
      at += name.length;
      let below = new Map();
      if (text[at] === '/') {
        at++;
        const start = at;
        const next = /^[\w*-]+/.exec(text.slice(at))?.[0];
        if (next === undefined) throw new Refusal(400, `Invalid field selection ${text.slice(start)}`);
        below = single();
      } else if (text[at] === '(') {
        at++;
        below = list();
        if (text[at] !== ')') throw new Refusal(400, `Invalid field selection ${text}`);
        at++;
      }
      found.set(name, new Map([...(found.get(name) ?? []), ...below]));
      if (text[at] !== ',') return found;
      at++;
    }
  };
  /** One path without a list: what stands behind a slash. */
  const single = () => {
    const name = /^[\w*-]+/.exec(text.slice(at))?.[0];
    if (name === undefined) throw new Refusal(400, `Invalid field selection ${text}`);
    at += name.length;
    if (text[at] === '/') {
      at++;
      return new Map([[name, single()]]);
    }
    if (text[at] !== '(') return new Map([[name, new Map()]]);
    at++;
    const below = list();
    if (text[at] !== ')') throw new Refusal(400, `Invalid field selection ${text}`);
    at++;
    return new Map([[name, below]]);
  };
  const result = list();
  if (at !== text.length) throw new Refusal(400, `Invalid field selection ${text}`);
  return result;
}

/** @param {unknown} value @param {Map<string, Map>} wanted */
function pick(value, wanted) {
  if (wanted.size === 0 || value === null || typeof value !== 'object') return value;
  if (Array.isArray(value)) return value.map((each) => pick(each, wanted));
  const result = {};
  for (const [name, below] of Object.entries(value)) {
    const rule = wanted.get(name) ?? wanted.get('*');
    if (rule !== undefined) result[name] = pick(below, rule);
  }
  return result;
}

/** @param {unknown} answer @param {string | undefined} fields */
export const selected = (answer, fields) => (fields === undefined ? answer : pick(answer, parse(fields)));
