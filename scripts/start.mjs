/** `npm start`: from a fresh clone to a mounted tree and a short tour of it; the mount stays when this ends. */
import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, mkdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { toMount } from './debian.mjs';
import { mirage, prepare, root } from './prepare.mjs';

prepare(toMount);

const mountpoint = chooseMountpoint();
const unmount = `npx mirage unmount ${mountpoint}`;

if (runningAt(mountpoint)) {
  console.log(`Mirage is already mounted at ${mountpoint}.`);
  console.log(`\nLook at it:  npx mirage status\nStop it:     ${unmount}`);
} else {
  // The folder that quickstart.yaml shows at local/.
  const home = process.env.HOME || homedir();
  mkdirSync(join(home, 'mirage-files'), { recursive: true });
  const { status } = spawnSync(
    process.execPath,
    [mirage, 'mount', '--config', join(root, 'mounts', 'quickstart.yaml'), mountpoint],
    { stdio: 'inherit', env: { ...process.env, HOME: home } },
  );
  if (status !== 0) process.exit(status ?? 1);
  const done = tour(mountpoint);
  console.log(`\nThe mount stays. Look at it:  npx mirage status\nStop it:                      ${unmount}`);
  if (!done) process.exit(1);
}

/** /mirage where it is there or can be made, ~/mirage otherwise. */
function chooseMountpoint() {
  const preferred = process.env.MIRAGE_MOUNTPOINT ?? '/mirage';
  if (runningAt(preferred)) return preferred;
  for (const folder of [preferred, join(homedir(), 'mirage')]) {
    try {
      mkdirSync(folder, { recursive: true });
      accessSync(folder, constants.W_OK);
      return folder;
    } catch {
      // Not ours to make: the next one.
    }
  }
  return preferred;
}

function runningAt(folder) {
  const { stdout } = spawnSync(process.execPath, [mirage, 'status', '--json'], { encoding: 'utf8' });
  const { daemons = [] } = stdout ? JSON.parse(stdout) : {};
  return daemons.some((daemon) => daemon.mountpoint === folder);
}

/** Real commands, shown with what they print. */
function tour(folder) {
  const commands = [
    'ls',
    'echo "hello from a real mount" > tmp/hello.txt && cat tmp/hello.txt',
    'cp tmp/hello.txt local/ && mv local/hello.txt local/greeting.txt && ls -l local',
    'grep -r "real mount" .',
    "printf '#!/bin/sh\\necho this script runs in memory\\n' > tmp/run.sh && chmod +x tmp/run.sh && tmp/run.sh",
    ...(existsSync('/usr/bin/sqlite3')
      ? ['sqlite3 tmp/demo.db "create table t(x); insert into t values(42); select x from t"']
      : []),
    'rm tmp/* local/greeting.txt && df -h tmp | tail -1',
  ];
  console.log(`\nA short tour. Each line is an ordinary program at work in ${folder}:\n`);
  for (const command of commands) {
    console.log(`$ ${command}`);
    const { status } = spawnSync('sh', ['-c', command], {
      cwd: folder,
      stdio: ['ignore', 'inherit', 'inherit'],
    });
    if (status !== 0) {
      console.error(`mirage: this step of the tour failed\n  do:  npx mirage doctor`);
      return false;
    }
  }
  return true;
}
