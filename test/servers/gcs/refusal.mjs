/** Refusals in the words of the JSON API: https://cloud.google.com/storage/docs/json_api/v1/status-codes */

const reasons = {
  304: 'notModified',
  400: 'invalid',
  401: 'authError',
  404: 'notFound',
  409: 'conflict',
  410: 'gone',
  412: 'conditionNotMet',
  416: 'requestedRangeNotSatisfiable',
  501: 'notImplemented',
};

export class Refusal extends Error {
  /** @param {number} code HTTP status @param {string} message @param {Record<string, string>} [headers] */
  constructor(code, message, headers = {}) {
    super(message);
    this.code = code;
    this.headers = headers;
  }

  toJSON() {
    const { code, message } = this;
    const detail = { message, domain: 'global', reason: reasons[code] ?? 'backendError' };
    return { error: { code, message, errors: [detail] } };
  }
}

/**
 * Query parameters by the names that an operation knows; any other is answered with 501, so that nothing is tested that is not there.
 * @param {URLSearchParams} query
 * @param {readonly string[]} known
 */
export function parameters(query, known) {
  const all = [...known, 'alt', 'fields', 'key', 'prettyPrint', 'projection', 'quotaUser', 'userProject'];
  const result = {};
  for (const [name, value] of query) {
    if (!all.includes(name)) throw new Refusal(501, `the parameter ${name} is not implemented here`);
    result[name] = value;
  }
  return result;
}

/** @param {unknown} value @param {string} name @param {number} least */
export function integer(value, name, least = 0) {
  if (value === undefined) return undefined;
  const text = String(value);
  if (!/^\d+$/.test(text) || BigInt(text) < BigInt(least)) {
    throw new Refusal(400, `Invalid value for ${name}: ${text}`);
  }
  return text;
}
