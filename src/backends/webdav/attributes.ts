import { z } from 'zod';
import type { StoredAttributes, Timestamp, Validator } from '../contract.js';

/**
 * Attributes as one dead property, JSON. Properties stay where they are when another client writes the content, so they name the
 * version they were saved for: of a later one they tell mode, owner and extended attributes, as on a disk, and nothing else.
 */
export const NAMESPACE = 'urn:mirage:webdav';
export const PROPERTY = 'mirage-attributes';

const PERMISSIONS = 0o7777;

const whole = z.int().min(0);
/** Seconds and nanoseconds. */
const time = z.tuple([z.int(), whole.max(999_999_999)]);
const saved = z.object({
  of: z.string().optional(),
  mode: whole.optional(),
  uid: whole.optional(),
  gid: whole.optional(),
  rdev: whole.optional(),
  modified: time.optional(),
  changed: time.optional(),
  accessed: time.optional(),
  xattrs: z.record(z.string(), z.string()).optional(),
  linkGroup: z.string().optional(),
  writer: z.string().optional(),
});

/** `validator`: of the content that the attributes belong to; undefined for a directory. */
export function encodeAttributes(attributes: StoredAttributes, validator: Validator | undefined): string {
  const { modified, changed, accessed, ...rest } = attributes;
  return JSON.stringify({
    of: validator,
    ...rest,
    modified: pair(modified),
    changed: pair(changed),
    accessed: pair(accessed),
  });
}

/** What another program damaged is as good as not there: the file itself must stay readable. */
export function decodeAttributes(text: string, validator: Validator | undefined): StoredAttributes {
  let found: z.output<typeof saved>;
  try {
    found = saved.parse(JSON.parse(text));
  } catch {
    return {};
  }
  const { of, mode, uid, gid, rdev, xattrs, linkGroup, writer } = found;
  const attributes: StoredAttributes = {
    ...(mode !== undefined && { mode }),
    ...(uid !== undefined && { uid }),
    ...(gid !== undefined && { gid }),
    ...(xattrs !== undefined && { xattrs }),
  };
  if (of !== validator) return mode === undefined ? attributes : { ...attributes, mode: mode & PERMISSIONS };
  return {
    ...attributes,
    ...(rdev !== undefined && { rdev }),
    ...(found.modified !== undefined && { modified: timestamp(found.modified) }),
    ...(found.changed !== undefined && { changed: timestamp(found.changed) }),
    ...(found.accessed !== undefined && { accessed: timestamp(found.accessed) }),
    ...(linkGroup !== undefined && { linkGroup }),
    ...(writer !== undefined && { writer }),
  };
}

const pair = (at: Timestamp | undefined): [number, number] | undefined => at && [at.seconds, at.nanoseconds];
const timestamp = ([seconds, nanoseconds]: [number, number]): Timestamp => ({ seconds, nanoseconds });

export const isEmpty = (attributes: StoredAttributes): boolean =>
  Object.values(attributes).every((value) => value === undefined);
