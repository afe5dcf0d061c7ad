import { Stat } from '../../native/local-files.js';
import type { DirectoryWatch } from './directory-watch.js';
import type { HostFiles } from './host-files.js';
import type { Freshness, HostNodes } from './host-nodes.js';

/** Nanoseconds: long enough to cost nothing, short enough to mend what nobody thought of. */
const HOUR = 3_600_000 * 1e6;
/** What inotify does not tell (a mapping that was written outside) shows after a minute at the latest, or when the file is opened. */
const MINUTE = 60_000 * 1e6;
const DIRECTORY_KIND = 0o4;

/** Nobody else changes the tree: the kernel remembers everything, listings too. */
export function exclusiveFreshness(files: HostFiles): Freshness {
  return { ...timedFreshness(HOUR, files), told: true };
}

/**
 * The kernel remembers everything for `valid` nanoseconds. Not the attributes of a file that a program may write without a request (passthrough, a
 * mapping): those are asked for each time.
 */
export function timedFreshness(valid: number, files: HostFiles): Freshness {
  return {
    told: false,
    observe() {},
    entry: () => valid,
    attributes: (slot) => (files.hasWriter(slot) ? 0 : valid),
    forget() {},
  };
}

/** The kernel remembers what a watch tells us about, until it does. */
export function watchedFreshness(watch: DirectoryWatch, nodes: HostNodes, files: HostFiles): Freshness {
  const { table, stat } = nodes;
  return {
    told: true,
    observe: (directory) => watch.observe(directory),
    entry: (directory) => (watch.isWatched(directory) ? MINUTE : 0),
    attributes(slot) {
      if (files.hasWriter(slot)) return 0;
      const parent = table.parents[slot]!;
      const seenInParent = slot === 0 || (parent >= 0 && watch.isWatched(parent));
      // A directory's times follow its entries; a file with several names may be written through one in a directory that is not watched.
      const seenItself =
        table.kinds[slot] === DIRECTORY_KIND ? watch.isWatched(slot) : stat[Stat.nlink] === 1;
      return seenInParent && seenItself ? MINUTE : 0;
    },
    forget: (slot) => watch.forget(slot),
  };
}
