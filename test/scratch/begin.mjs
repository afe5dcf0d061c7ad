/**
 * Everything that tests leave in the temporary folder is in one folder of it, with one in it for each run. Whoever begins takes away what runs
 * left that were killed, with what is still mounted there.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export default function begin() {
  const all = join(tmpdir(), `mirage-tests-${process.getuid()}`);
  mkdirSync(all, { recursive: true });
  for (const run of readdirSync(all)) if (!isRunning(Number(run))) takeAway(join(all, run));
  const own = join(all, String(process.pid));
  mkdirSync(own, { recursive: true });
  // Jest hands it on to the processes that run the tests.
  process.env.TMPDIR = own;
}

function isRunning(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

export function takeAway(folder) {
  const table = existsSync('/proc/self/mountinfo') ? readFileSync('/proc/self/mountinfo', 'utf8') : '';
  const mounted = table
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '')
    .filter((path) => path.startsWith(`${folder}/`));
  const [command, options] =
    process.getuid() === 0 ? ['umount', ['-f', '-l']] : ['fusermount3', ['-u', '-z']];
  try {
    for (const path of mounted.reverse()) {
      execFileSync(command, [...options, path], { stdio: 'ignore', timeout: 10_000 });
    }
    rmSync(folder, { recursive: true, force: true });
  } catch (error) {
    console.error(`${folder} of an earlier run stays: ${error.message}`);
  }
}
