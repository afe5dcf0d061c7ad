import { Stat } from '../../native/local-files.js';
import { type Attributes, isRegular } from '../attributes.js';
import { hashNumber } from './slot-index.js';

const INO_BITS_OF_A_VOLUME = 2 ** 41;
const LARGEST_INO = 2 ** 52;

/** How the stat record of the host looks to programs on the mount. */
export class HostAttributes {
  /**
   * `index` is the volume's, `device` that of its root. All volumes share one `st_dev`, so inode numbers are kept apart by the volume's index in
   * their upper bits; numbers that do not fit there, and those of file systems mounted below the root, are hashed.
   */
  constructor(
    private readonly index: number,
    private readonly device: number,
    private readonly executable: boolean,
  ) {}

  fill(target: Attributes, stat: Float64Array): Attributes {
    target.ino = this.ino(stat[Stat.ino]!, stat[Stat.device]!);
    target.size = stat[Stat.size]!;
    target.blocks = stat[Stat.blocks]!;
    target.mode = this.mode(stat[Stat.mode]!);
    target.nlink = stat[Stat.nlink]!;
    target.uid = stat[Stat.uid]!;
    target.gid = stat[Stat.gid]!;
    target.rdev = stat[Stat.rdev]!;
    target.blockSize = stat[Stat.blockSize]!;
    target.accessedSeconds = stat[Stat.accessedSeconds]!;
    target.accessedNanoseconds = stat[Stat.accessedNanoseconds]!;
    target.modifiedSeconds = stat[Stat.modifiedSeconds]!;
    target.modifiedNanoseconds = stat[Stat.modifiedNanoseconds]!;
    target.changedSeconds = stat[Stat.changedSeconds]!;
    target.changedNanoseconds = stat[Stat.changedNanoseconds]!;
    return target;
  }

  /** Regular files carry the x bit in `exec` mode only. */
  mode(mode: number): number {
    return this.executable || !isRegular(mode) ? mode : mode & ~0o111;
  }

  ino(ino: number, device: number): number {
    if (device === this.device && ino < INO_BITS_OF_A_VOLUME) return this.index * INO_BITS_OF_A_VOLUME + ino;
    const high = hashNumber(ino, hashNumber(device, this.index)) & 0xfffff;
    const low = hashNumber(ino, hashNumber(device, ~this.index)) >>> 0;
    return LARGEST_INO + high * 2 ** 32 + low;
  }

  /** The inode number of an entry, of which a listing does not say the device. */
  entryIno(ino: number): number {
    return this.ino(ino, this.device);
  }
}

/** One number below 2^53 for size, mtime and ctime: equal as long as nobody has written. Never 0. */
export function contentVersion(stat: Float64Array): number {
  const time = hashNumber(
    stat[Stat.modifiedNanoseconds]!,
    hashNumber(
      stat[Stat.changedNanoseconds]!,
      hashNumber(stat[Stat.changedSeconds]!, stat[Stat.modifiedSeconds]!),
    ),
  );
  return (
    1 +
    (time >>> 0) * 2 ** 20 +
    (hashNumber(stat[Stat.size]!, Math.imul(stat[Stat.changedNanoseconds]!, 31)) & 0xfffff)
  );
}

/** As `contentVersion`, of size and mtime alone: a change of mode or owner leaves it. */
export function writtenVersion(stat: Float64Array): number {
  return hashNumber(
    stat[Stat.size]!,
    hashNumber(stat[Stat.modifiedSeconds]!, stat[Stat.modifiedNanoseconds]!),
  );
}

/** A file that changed less than this ago may change again without its times telling (the tick of the kernel's clock), milliseconds. */
const CLOCK_TICK = 20;

/** Whether a later change is sure to give another `contentVersion`. `now` is milliseconds since 1970. */
export function isSettled(stat: Float64Array, now: number): boolean {
  const changed = stat[Stat.changedSeconds]! * 1000 + stat[Stat.changedNanoseconds]! / 1e6;
  return Math.abs(now - changed) >= CLOCK_TICK;
}
