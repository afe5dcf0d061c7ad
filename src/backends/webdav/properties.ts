import type { ObjectInfo, StoredAttributes, Timestamp, Validator } from '../contract.js';
import { decodeAttributes, NAMESPACE, PROPERTY } from './attributes.js';
import type { Resource } from './multistatus.js';
import { escaped, textOf } from './xml.js';

const NEVER: Timestamp = { seconds: 0, nanoseconds: 0 };
/** One object for all that have none: it is sent to another thread once. */
const NO_ATTRIBUTES: StoredAttributes = {};

/** All that is asked of a resource or a listing, in one request. */
export const PROPFIND =
  `<?xml version="1.0" encoding="utf-8"?><D:propfind xmlns:D="DAV:" xmlns:M="${NAMESPACE}"><D:prop>` +
  `<D:resourcetype/><D:getcontentlength/><D:getlastmodified/><D:getetag/><M:${PROPERTY}/></D:prop></D:propfind>`;

export const PROPFIND_QUOTA =
  '<?xml version="1.0" encoding="utf-8"?><D:propfind xmlns:D="DAV:"><D:prop>' +
  '<D:quota-available-bytes/><D:quota-used-bytes/></D:prop></D:propfind>';

/** Sets our property, or removes it. */
export function proppatch(value: string | undefined): string {
  const [verb, content] =
    value === undefined
      ? ['remove', `<M:${PROPERTY}/>`]
      : ['set', `<M:${PROPERTY}>${escaped(value)}</M:${PROPERTY}>`];
  return (
    `<?xml version="1.0" encoding="utf-8"?><D:propertyupdate xmlns:D="DAV:" xmlns:M="${NAMESPACE}">` +
    `<D:${verb}><D:prop>${content}</D:prop></D:${verb}></D:propertyupdate>`
  );
}

/** A collection has no content and so no version; but it has a resource of its own, which this stands for. */
export const COLLECTION: Validator = 'collection';

/**
 * What a listing says of a resource; undefined for one that is only locked and not written yet (RFC 2518 calls it a lock-null
 * resource): it has neither size nor time. `keepsAttributes`: the server has a place for ours.
 */
export function infoOf(
  key: string,
  { properties }: Resource,
  keepsAttributes: boolean,
): ObjectInfo | undefined {
  const { resourcetype, getcontentlength, getlastmodified, getetag, [PROPERTY]: saved } = properties;
  const isCollection = typeof resourcetype === 'object' && 'collection' in resourcetype;
  const length = textOf(getcontentlength);
  const modified = textOf(getlastmodified);
  if (!isCollection && length === undefined && modified === undefined) return undefined;
  const size = length !== undefined && /^\d{1,15}$/.test(length) ? Number(length) : undefined;
  const at = timestampOf(modified);
  const validator = isCollection ? COLLECTION : validatorOf(textOf(getetag), size, at);
  const text = textOf(saved);
  return {
    key,
    kind: isCollection ? 'directory' : 'file',
    size: isCollection ? 0 : size,
    modified: at,
    validator,
    attributes: keepsAttributes
      ? text === undefined
        ? NO_ATTRIBUTES
        : decodeAttributes(text, isCollection ? undefined : validator)
      : undefined,
  };
}

/**
 * What the head of a GET or PUT answer says of the version. `size`: of the whole file. `byTime`: the server's listings show no ETags, so
 * that the one it has here must not count.
 */
export const validatorOfHeaders = (
  headers: { readonly etag?: string | undefined; readonly 'last-modified'?: string | undefined },
  size: number | undefined,
  byTime = false,
): Validator => validatorOf(byTime ? undefined : headers.etag, size, timestampOf(headers['last-modified']));

/**
 * An ETag without its quotes: a weak one names the same version as the strong one it becomes (Apache calls an ETag weak in the second
 * after a write, and compares without that mark). Without an ETag size and time take its place.
 */
function validatorOf(etag: string | undefined, size: number | undefined, modified: Timestamp): Validator {
  const opaque = etag?.trim().replace(/^W\//, '');
  if (opaque === undefined || opaque === '') return `${BY_TIME}${size ?? '?'}@${modified.seconds}`;
  // What a compressing filter in front of the server adds, inside the quotes.
  return opaque.replace(/^"(.*)"$/s, '$1').replace(/[-;]gzip$/, '');
}

/** No ETag begins like this: a quote would end it. */
const BY_TIME = '"';
export const isByTime = (validator: Validator): boolean => validator.startsWith(BY_TIME);

export const entityTag = (validator: Validator): string => `"${validator}"`;

const MONTHS = 'JanFebMarAprMayJunJulAugSepOctNovDec';
const IMF_DATE = /^\w{3}, (\d\d) (\w{3}) (\d{4}) (\d\d):(\d\d):(\d\d) GMT$/;

/** The one that was asked for last: files of a folder are often written in one second, and then share it. */
let lastDate = { text: '', at: NEVER };

/** Whole seconds, as HTTP dates have them (RFC 9110, 5.6.7); second 0 for what is none. */
export function timestampOf(date: string | undefined): Timestamp {
  if (date === undefined || date === '') return NEVER;
  if (date !== lastDate.text) lastDate = { text: date, at: { seconds: secondsOf(date), nanoseconds: 0 } };
  return lastDate.at;
}

function secondsOf(date: string): number {
  const [, day, name = '', year, hours, minutes, seconds] = IMF_DATE.exec(date) ?? [];
  const month = MONTHS.indexOf(name) / 3;
  const milliseconds =
    name !== '' && Number.isInteger(month) && month >= 0
      ? Date.UTC(Number(year), month, Number(day), Number(hours), Number(minutes), Number(seconds))
      : Date.parse(date);
  return Number.isNaN(milliseconds) ? 0 : Math.floor(milliseconds / 1000);
}
