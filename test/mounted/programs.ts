/** Real programs at work in one mounted folder, which must allow executables. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { Limits } from './expectations.js';
import { must, python, shell } from './process.js';

export const long = process.env.MIRAGE_TEST_LONG !== undefined;
const fsx = fileURLToPath(new URL('fsx.py', import.meta.url));
const DEADLINE = long ? 900_000 : 120_000;

/** Neither the user's settings nor those of the machine. */
const git = {
  GIT_CONFIG_GLOBAL: '/dev/null',
  GIT_CONFIG_NOSYSTEM: '1',
  GIT_AUTHOR_NAME: 'Tester',
  GIT_AUTHOR_EMAIL: 'tester@example.com',
  GIT_COMMITTER_NAME: 'Tester',
  GIT_COMMITTER_EMAIL: 'tester@example.com',
};

const sqlite = `
import sqlite3, sys, os
path, mode = sys.argv[1], sys.argv[2]
db = sqlite3.connect(path, timeout=30)
assert db.execute(f"pragma journal_mode={mode}").fetchone()[0] == mode
db.execute("create table if not exists t (id integer primary key, writer int, body blob)")
db.commit()
def writer(number):
    db = sqlite3.connect(path, timeout=30)
    for i in range(25):
        with db:
            db.execute("insert into t (writer, body) values (?, ?)", (number, os.urandom(3000)))
    db.close()
pids = []
db.close()
for number in range(3):
    pid = os.fork()
    if pid == 0:
        try:
            writer(number); os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr); os._exit(1)
    pids.append(pid)
assert all(os.waitpid(pid, 0)[1] == 0 for pid in pids)
db = sqlite3.connect(path, timeout=30)
assert db.execute("select count(*) from t").fetchone()[0] == 75
try:
    with db:
        db.execute("delete from t")
        raise RuntimeError("roll back")
except RuntimeError:
    pass
assert db.execute("select count(*) from t").fetchone()[0] == 75
db.execute("vacuum")
assert db.execute("pragma integrity_check").fetchone()[0] == "ok"
`;

/** A tree with every kind of thing that a copying program must keep. */
const makeTree = `
mkdir -p tree/sub/deep 'tree/with space'
seq 1 20000 > tree/numbers
head -c 300000 /dev/urandom > tree/sub/random
: > tree/empty
printf '#!/bin/sh\\necho hello\\n' > tree/sub/run; chmod 755 tree/sub/run
chmod 600 tree/numbers
ln -s ../numbers tree/sub/link
ln -s nowhere tree/dangling
printf x > 'tree/with space/ü'
setfattr -n user.colour -v blue tree/numbers
setfattr -n user.bytes -v 0x00ff10 tree/sub
touch -h -d '2001-02-03 04:05:06.250' tree/sub/link tree/dangling
find tree -type f -exec touch -d '2002-02-03 04:05:06.500' {} +
find tree -depth -type d -exec touch -d '2003-02-03 04:05:06' {} +
`;

/** Names, types, permissions, sizes and times, one per line. */
const describeTree = (path: string): string =>
  `find ${path} -printf '%P %y %m %T@ %l ' -a \\( -type f -printf '%s\\n' -o -printf '\\n' \\) | sort`;

const xattrsOf = (path: string): string => `(cd ${path} && getfattr -R -h -d -m - -e hex . | sort)`;

export interface ProgramOptions {
  readonly limits?: Limits;
  /** False where fallocate does not exist. */
  readonly holes?: boolean;
}

export function describePrograms(mounted: () => string, options: ProgramOptions = {}): void {
  const limits = options.limits ?? {};
  describe('real programs', () => {
    let outside: string;
    let made = 0;
    beforeAll(() => {
      outside = mkdtempSync(join(tmpdir(), 'mirage-programs-'));
    });
    afterAll(() => {
      rmSync(outside, { recursive: true, force: true });
    });

    function program(name: string, body: (folder: string, outside: string) => Promise<void>): void {
      const limit = limits[name];
      const attempt = async (): Promise<void> => {
        made++;
        const [inside, beside] = [join(mounted(), `program-${made}`), join(outside, `${made}`)];
        mkdirSync(beside);
        await must('mkdir', [inside]);
        await body(inside, beside);
      };
      if (limit === undefined) test(name, attempt, DEADLINE);
      else {
        test(`cannot (${limit}): ${name}`, () => expect(attempt()).rejects.toThrow(), DEADLINE);
      }
    }

    program('git clones, commits, branches and finds nothing broken', async (folder) => {
      await shell(
        `
        git init -q -b main origin
        cd origin
        mkdir -p src/deep
        for i in $(seq 1 60); do echo "file $i" > src/f$i; done
        head -c 200000 /dev/urandom > src/deep/blob
        printf '#!/bin/sh\\n' > src/run; chmod +x src/run
        ln -s src/f1 link
        git add . && git commit -q -m one
        echo more >> src/f1; git mv src/f2 src/moved; git rm -q src/f3
        git commit -q -a -m two
        cd ..
        git clone -q origin clone
        cd clone
        test -z "$(git status --porcelain)"
        git fsck --strict --full
        test "$(git rev-list --count HEAD)" = 2
        git checkout -q -b side HEAD~1
        test -e src/f3
        echo side > src/side; git add src/side; git commit -q -m side
        git checkout -q main
        git merge -q -m merged side
        git gc -q
        git fsck --strict --full
        test -z "$(git status --porcelain)"
        git push -q origin side
        `,
        folder,
        { env: git, deadline: DEADLINE },
      );
    });

    for (const mode of ['delete', 'wal']) {
      const journal = mode === 'wal' ? 'a write-ahead log' : 'a rollback journal';
      program(`sqlite keeps its database whole with ${journal}`, async (folder) => {
        await must(python, ['-c', sqlite, join(folder, 'db'), mode], { deadline: DEADLINE });
      });
    }

    program('npm installs a package and runs its scripts', async (folder, beside) => {
      await shell(
        `
        mkdir -p dep/bin
        cat > dep/package.json <<'JSON'
{ "name": "dep", "version": "1.0.0", "bin": { "dep": "bin/dep.js" },
  "scripts": { "postinstall": "node -p 1 > built" } }
JSON
        printf '#!/usr/bin/env node\\nconsole.log("dep runs")\\n' > dep/bin/dep.js
        (cd dep && npm pack --silent)
        cat > package.json <<'JSON'
{ "name": "app", "version": "1.0.0", "private": true, "allowScripts": { "dep": true },
  "scripts": { "postinstall": "node -p 1 > own", "go": "dep" } }
JSON
        npm install --offline --no-audit --no-fund --foreground-scripts ./dep/dep-1.0.0.tgz
        test -s node_modules/dep/built
        npm ci --offline --no-audit --no-fund --foreground-scripts
        test -s own
        test -s node_modules/dep/built
        test "$(npm run --silent go)" = "dep runs"
        npm ls dep
        `,
        folder,
        { env: { npm_config_cache: join(beside, 'cache') }, deadline: DEADLINE },
      );
    });

    program('rsync -aX copies a tree and then finds nothing to do', async (folder, beside) => {
      await shell(makeTree, beside);
      await shell(`rsync -aX '${beside}/tree/' '${folder}/copy/'`, folder);
      const left = await shell(
        `rsync -aX --checksum --dry-run --itemize-changes '${beside}/tree/' '${folder}/copy/'`,
        folder,
      );
      expect(left).toBe('');
      expect(await shell(describeTree('copy'), folder)).toBe(await shell(describeTree('tree'), beside));
      // And back again.
      await shell(`rsync -aX '${folder}/copy/' back/ && diff -r --no-dereference tree back`, beside);
    });

    program('tar keeps extended attributes, both ways', async (folder, beside) => {
      await shell(makeTree, beside);
      await shell(`tar --xattrs -cf - -C '${beside}' tree | tar --xattrs -xf - -C '${folder}'`, folder);
      expect(await shell(xattrsOf('tree'), folder)).toBe(await shell(xattrsOf('tree'), beside));
      expect(await shell(describeTree('tree'), folder)).toBe(await shell(describeTree('tree'), beside));
      await shell(
        `
        mkdir again && tar --xattrs -cf - -C '${folder}' tree | tar --xattrs -xf - -C again
        diff -r --no-dereference tree again/tree
        `,
        beside,
      );
      expect(await shell(xattrsOf('again/tree'), beside)).toBe(await shell(xattrsOf('tree'), beside));
    });

    program('cp -a keeps a tree as it is', async (folder, beside) => {
      await shell(makeTree, beside);
      await shell(`ln tree/numbers tree/sub/hard && touch -d '2003-02-03 04:05:06' tree/sub`, beside);
      await shell(
        `cp -a '${beside}/tree' copy && cp -a copy again && diff -r --no-dereference copy again`,
        folder,
      );
      expect(await shell(describeTree('again'), folder)).toBe(await shell(describeTree('tree'), beside));
      const links = await shell('stat -c %h again/numbers; test again/numbers -ef again/sub/hard', folder);
      expect(links).toBe('2\n');
    });

    program('an editor saves by writing a new file and renaming it over the old one', async (folder) => {
      await shell(
        `
        echo original > notes.txt; chmod 640 notes.txt
        for i in $(seq 1 15); do
          echo "version $i" > .notes.txt.swp
          cp -p notes.txt notes.txt~
          sync .notes.txt.swp
          chmod --reference=notes.txt .notes.txt.swp
          mv .notes.txt.swp notes.txt
          test "$(cat notes.txt)" = "version $i"
          test "$(stat -c %a notes.txt)" = 640
        done
        test "$(cat notes.txt~)" = "version 14"
        sed -i s/version/edited/ notes.txt
        test "$(cat notes.txt)" = "edited 15"
        test "$(ls -A | wc -l)" = 2
        `,
        folder,
      );
    });

    program('four processes append 50 lines each and 200 lines are kept', async (folder) => {
      await shell(
        `
        for writer in 1 2 3 4; do
          (for line in $(seq 1 50); do echo "writer $writer line $line" >> log; done) &
        done
        wait
        test "$(wc -l < log)" = 200
        test "$(sort -u log | wc -l)" = 200
        `,
        folder,
      );
    });

    program('an executable runs, a script and a program', async (folder) => {
      const output = await shell(
        `
        printf '#!/bin/sh\\necho "script $1"\\n' > script; chmod 755 script; ./script runs
        cp /bin/echo program; ./program program runs
        `,
        folder,
      );
      expect(output).toBe('script runs\nprogram runs\n');
    });

    program('a compiler builds a program that runs', async (folder) => {
      const output = await shell(
        `
        printf '#include <stdio.h>\\nint main(void) { puts("compiled"); return 0; }\\n' > main.c
        gcc -O1 -g -o main main.c && ./main
        ar rcs lib.a main.c && ar t lib.a
        `,
        folder,
      );
      expect(output).toBe('compiled\nmain.c\n');
    });

    program('grep, find, cat and rm agree with what was written', async (folder) => {
      const output = await shell(
        `
        for i in $(seq 1 10); do mkdir d$i; for j in $(seq 1 15); do echo "needle $i $j" > d$i/f$j; done; done
        grep -r 'needle 7 ' . | wc -l
        find . -type f | wc -l
        find . -type d | wc -l
        cat d*/f* | wc -l
        stat -c %s d1/f1
        rm -r d1 d2 && ls | wc -l
        `,
        folder,
      );
      expect(output.trim().split('\n').map(Number)).toEqual([15, 150, 11, 150, 11, 8]);
    });

    program('fio verifies what it wrote', async (folder) => {
      const size = long ? '256m' : '8m';
      for (const engine of ['psync', 'mmap']) {
        await must(
          'fio',
          [
            ...['--name=verify', `--directory=${folder}`, `--filename=${engine}`, `--size=${size}`],
            ...[
              '--rw=randwrite',
              '--bsrange=512-64k',
              '--verify=crc32c',
              '--verify_fatal=1',
              '--randseed=42',
            ],
            ...[`--ioengine=${engine}`, '--end_fsync=1', '--output-format=terse'],
          ],
          { cwd: folder, deadline: DEADLINE },
        );
      }
    });

    const holes = options.holes === false ? ['--no-holes'] : [];
    for (const seed of long ? [1, 2, 3, 4, 5, 6, 7, 8] : [1, 2]) {
      program(`random operations leave what a copy in memory says (seed ${seed})`, async (folder) => {
        const operations = long ? '20000' : '1000';
        await must(python, [fsx, join(folder, 'file'), `${seed}`, operations, ...holes], {
          deadline: DEADLINE,
        });
      });
    }
  });
}
