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

export const isOurs = ({ source, type }: MountTableEntry): boolean =>
  source === 'mirage' && type.startsWith('fuse');

/** The mount that a path, without symlinks, lies in. */
export const mountOf = (path: string): MountTableEntry | undefined =>
  mountTable().reduce<MountTableEntry | undefined>(
    (best, entry) =>
      isBelow(path, entry.path) && entry.path.length >= (best?.path.length ?? 0) ? entry : best,
    undefined,
  );

const isBelow = (path: string, folder: string): boolean =>
  path === folder || path.startsWith(folder.endsWith('/') ? folder : `${folder}/`);

/** Space, tab, newline and backslash are octal in this table. */
const unoctal = (text: string): string =>
  text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
