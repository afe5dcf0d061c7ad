import { MirageError } from '../../errors/mirage-error.js';
import { localFiles } from '../../native/local-files.js';

/** Two connected stream sockets, by descriptor: ours, which does not block, and the one that becomes the standard streams of a child. */
export interface SocketPair {
  readonly ours: number;
  readonly theirs: number;
}

/** The pipes that a child process gets from Node could be used neither by another thread nor with a buffer of our own. */
export function socketPair(): SocketPair {
  const ends = new Int32Array(2);
  const result = localFiles().socketPair(ends);
  if (result < 0) throw MirageError.system('socketpair', -result);
  return { ours: ends[0]!, theirs: ends[1]! };
}
