import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

export interface MountUser {
  readonly pid: number;
  readonly name: string;
  /** What it has open there. */
  readonly path: string;
}

/**
 * Processes with something open below a folder, as far as this user may see. Reads the links in /proc, which never asks the mount
 * itself.
 */
export function mountUsers(folder: string): readonly MountUser[] {
  const users: MountUser[] = [];
  for (const pid of namesIn('/proc').filter((name) => /^\d+$/.test(name))) {
    const links = ['cwd', 'root', 'exe', ...namesIn(`/proc/${pid}/fd`).map((fd) => `fd/${fd}`)];
    const path = links
      .map((link) => target(`/proc/${pid}/${link}`))
      .find((to) => to === folder || to?.startsWith(`${folder}/`));
    if (path !== undefined) users.push({ pid: Number(pid), name: nameOf(pid), path });
  }
  return users;
}

function namesIn(folder: string): readonly string[] {
  try {
    return readdirSync(folder);
  } catch {
    return []; // ended meanwhile, or another user's
  }
}

function target(link: string): string | undefined {
  try {
    return readlinkSync(link);
  } catch {
    return undefined;
  }
}

function nameOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
  } catch {
    return '?';
  }
}
