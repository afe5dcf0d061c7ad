import type { ServerAttributeChange, ServerAttributes } from '../file-server.js';
import type { ReplyPacket, RequestPacket } from './packet.js';

enum Has {
  size = 1,
  owner = 2,
  permissions = 4,
  times = 8,
  extended = 0x80000000,
}

const S_IFMT = 0o170000;
const S_IFREG = 0o100000;

/** ATTRS of the protocol: every field may be missing. Times are unsigned seconds, as OpenSSH sends and takes them. */
export interface WireAttributes {
  size?: number;
  uid?: number;
  gid?: number;
  mode?: number;
  accessed?: number;
  modified?: number;
}

export function readAttributes(packet: ReplyPacket): WireAttributes {
  const flags = packet.u32();
  const found: WireAttributes = {};
  if (flags & Has.size) found.size = packet.u64();
  if (flags & Has.owner) {
    found.uid = packet.u32();
    found.gid = packet.u32();
  }
  if (flags & Has.permissions) found.mode = packet.u32();
  if (flags & Has.times) {
    found.accessed = packet.u32();
    found.modified = packet.u32();
  }
  if (flags & Has.extended) {
    for (let left = packet.u32(); left > 0; left--) {
      packet.bytes();
      packet.bytes();
    }
  }
  return found;
}

/** Owner and group go together, and so do the times: a pair with one half missing is left out. */
export function writeAttributes(packet: RequestPacket, given: WireAttributes): RequestPacket {
  const { size, uid, gid, mode, accessed, modified } = given;
  const owned = uid !== undefined && gid !== undefined;
  const timed = accessed !== undefined && modified !== undefined;
  packet.u32(
    (size === undefined ? 0 : Has.size) |
      (owned ? Has.owner : 0) |
      (mode === undefined ? 0 : Has.permissions) |
      (timed ? Has.times : 0),
  );
  if (size !== undefined) packet.u64(size);
  if (owned) packet.u32(uid).u32(gid);
  if (mode !== undefined) packet.u32(mode);
  if (timed) packet.u32(accessed).u32(modified);
  return packet;
}

/** How owners of the server appear on this host and back. */
export interface OwnerMap {
  readonly uidHere: (there: number) => number;
  readonly gidHere: (there: number) => number;
  readonly uidThere: (here: number) => number;
  readonly gidThere: (here: number) => number;
}

const same = (id: number): number => id;
export const sameOwners: OwnerMap = { uidHere: same, gidHere: same, uidThere: same, gidThere: same };

/** The user we log in as there is the user of this process here; all others keep their numbers. */
export function userOwners(
  there: { uid: number; gid: number },
  here: { uid: number; gid: number },
): OwnerMap {
  const swap = (from: number, to: number) => (id: number) => (id === from ? to : id);
  return {
    uidHere: swap(there.uid, here.uid),
    gidHere: swap(there.gid, here.gid),
    uidThere: swap(here.uid, there.uid),
    gidThere: swap(here.gid, there.gid),
  };
}

/** `longname`: the line as of `ls -l` that a listing carries, the only place where the protocol tells the number of names. */
export function toServerAttributes(
  wire: WireAttributes,
  owners: OwnerMap,
  longname?: string,
): ServerAttributes {
  const mode = wire.mode ?? S_IFREG;
  const links = longname === undefined ? undefined : linksOf(longname);
  return {
    mode: (mode & S_IFMT) === 0 ? mode | S_IFREG : mode,
    size: wire.size ?? 0,
    uid: owners.uidHere(wire.uid ?? 0),
    gid: owners.gidHere(wire.gid ?? 0),
    accessedSeconds: wire.accessed ?? 0,
    accessedNanoseconds: 0,
    modifiedSeconds: wire.modified ?? 0,
    modifiedNanoseconds: 0,
    ...(links !== undefined && { links }),
  };
}

/** OpenSSH writes `-rw-r--r--    2 root     root …`, and `?` in place of the number where it does not know it. */
function linksOf(longname: string): number | undefined {
  const [, count] = /^[-a-zA-Z?][-a-zA-Z]{9}[+.@]? +(\d+) /.exec(longname) ?? [];
  return count === undefined ? undefined : Number(count);
}

/** `known`: the attributes as they are, for the other half of a pair that is sent together. */
export function toWireChange(
  change: ServerAttributeChange,
  owners: OwnerMap,
  known: WireAttributes | undefined,
): WireAttributes {
  const { size, mode, uid, gid, accessed, modified } = change;
  const wire: WireAttributes = {};
  if (size !== undefined) wire.size = size;
  if (mode !== undefined) wire.mode = mode & 0o7777;
  if (uid !== undefined || gid !== undefined) {
    wire.uid = uid === undefined ? (known?.uid ?? 0) : owners.uidThere(uid);
    wire.gid = gid === undefined ? (known?.gid ?? 0) : owners.gidThere(gid);
  }
  if (accessed !== undefined || modified !== undefined) {
    wire.accessed = accessed === undefined ? (known?.accessed ?? 0) : unsignedSeconds(accessed.seconds);
    wire.modified = modified === undefined ? (known?.modified ?? 0) : unsignedSeconds(modified.seconds);
  }
  return wire;
}

/** Whether the change names one half of a pair only. */
export const needsKnown = ({ uid, gid, accessed, modified }: ServerAttributeChange): boolean =>
  (uid === undefined) !== (gid === undefined) || (accessed === undefined) !== (modified === undefined);

/** Times before 1970 and after 2106 have no form there: the nearest that has one. */
const unsignedSeconds = (seconds: number): number => Math.min(Math.max(seconds, 0), 0xffffffff);
