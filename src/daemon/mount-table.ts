import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';

/** What the kernel has mounted, as proc(5) shows it to this process. */
export interface MountTableEntry {
  readonly path: string;
  readonly type: string;
  readonly source: string;
}

/** Reading it never touches a mount, so it cannot hang on a dead one. Empty where there is no /proc. */
export function mountTable(): readonly MountTableEntry[] {
  let text: string;
  try {
    text = readFileSync('/proc/self/mountinfo', 'utf8');
  } catch {
    return [];
  }
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [left, right] = line.split(' - ') as [string, string];
      const [type, source] = right.split(' ') as [string, string];
      return { path: unoctal(left.split(' ')[4]!), type, source: unoctal(source) };
    });
}

/** The mount that covers a folder, exactly there; the last one lies on top. */
export const mountedAt = (path: string): MountTableEntry | undefined =>
  mountTable().findLast((entry) => entry.path === path);

/** Space, tab, newline and backslash are octal in this table. */
const unoctal = (text: string): string =>
  text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));

/**
 * Whether the file system at `path` answers a getattr and a statfs, which the kernel never answers from memory. Another process
 * asks: one that asks its own mount and gets no answer cannot be ended. False after `deadline` milliseconds.
 */
export function answersThroughKernel(path: string, deadline: number): Promise<boolean> {
  const ask = 'test -d "$1" && exec stat -f "$1"';
  return new Promise((resolve) => {
    execFile('sh', ['-c', ask, 'sh', path], { timeout: deadline, killSignal: 'SIGKILL' }, (error) =>
      resolve(error === null),
    );
  });
}
