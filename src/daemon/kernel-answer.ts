import { execFile } from 'node:child_process';

/**
 * Whether the file system at `path` answers a getattr and a statfs, which the kernel never answers from memory. False after
 * `deadline` milliseconds.
 */
export const answersThroughKernel = async (path: string, deadline: number): Promise<boolean> =>
  (await complaint(path, deadline)) === undefined;

/** Whether the kernel says that nobody serves the mount any more (ENOTCONN). Silence is not that. */
export const isDisconnected = async (path: string, deadline: number): Promise<boolean> =>
  (await complaint(path, deadline))?.includes('endpoint is not connected') === true;

/** What `stat` complains of. Another process asks: one that asks its own mount and gets no answer cannot be ended. */
function complaint(path: string, deadline: number): Promise<string | undefined> {
  const ask = 'if test -d "$1"; then exec stat -f "$1"; else exec stat "$1"; fi';
  const env = { ...process.env, LC_ALL: 'C' };
  return new Promise((resolve) => {
    execFile(
      'sh',
      ['-c', ask, 'sh', path],
      { timeout: deadline, killSignal: 'SIGKILL', env },
      (error, _, said) => resolve(error === null ? undefined : said),
    );
  });
}
