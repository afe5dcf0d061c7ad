import { readFileSync } from 'node:fs';

/** The supplementary groups of a process (proc(5), `status`), empty when it is gone or not visible. */
export function supplementaryGroups(pid: number): Uint32Array {
  let status: string;
  try {
    status = readFileSync(`/proc/${pid}/status`, 'latin1');
  } catch {
    return new Uint32Array();
  }
  const line = /^Groups:\t?(.*)$/m.exec(status)?.[1]?.trim();
  return Uint32Array.from(line ? line.split(/\s+/) : [], Number);
}
