import type { AttributeChange } from '../vfs/operations.js';
import { ARGUMENT, SetAttr } from './protocol.js';
import type { RequestArena } from './request-arena.js';

/** fuse_setattr_in, in words behind the header. */
const Field = {
  valid: 0,
  handle: 2,
  size: 4,
  accessed: 8,
  modified: 10,
  changed: 12,
  accessedNanoseconds: 14,
  modifiedNanoseconds: 15,
  changedNanoseconds: 16,
  mode: 17,
  uid: 19,
  gid: 20,
} as const;

/** What a SETATTR asks to change. */
export function readAttributeChange(arena: RequestArena): AttributeChange {
  const valid = arena.argument32(Field.valid);
  const time = (seconds: number, nanoseconds: number) => ({
    seconds: arena.i64(ARGUMENT + seconds),
    nanoseconds: arena.argument32(nanoseconds),
  });
  const change: AttributeChange = {};
  if (valid & SetAttr.FH) change.handle = arena.argument64(Field.handle);
  if (valid & SetAttr.MODE) change.mode = arena.argument32(Field.mode);
  if (valid & SetAttr.UID) change.uid = arena.argument32(Field.uid);
  if (valid & SetAttr.GID) change.gid = arena.argument32(Field.gid);
  if (valid & SetAttr.SIZE) change.size = arena.argument64(Field.size);
  if (valid & SetAttr.ATIME_NOW) change.accessed = 'now';
  else if (valid & SetAttr.ATIME) change.accessed = time(Field.accessed, Field.accessedNanoseconds);
  if (valid & SetAttr.MTIME_NOW) change.modified = 'now';
  else if (valid & SetAttr.MTIME) change.modified = time(Field.modified, Field.modifiedNanoseconds);
  if (valid & SetAttr.CTIME) change.changed = time(Field.changed, Field.changedNanoseconds);
  if (valid & SetAttr.KILL_SUIDGID) change.killPrivileges = true;
  return change;
}
