import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import * as protocol from '../../src/fuse/protocol.js';

/** Evaluates C expressions over the kernel's own header. */
function evaluate(expressions: readonly string[]): Record<string, number> {
  const folder = mkdtempSync(join(tmpdir(), 'mirage-fuse-layout-'));
  try {
    const lines = expressions.map((one) => `  printf("%lld\\n", (long long)(${one}));`).join('\n');
    const program = `#include <linux/fuse.h>\n#include <stddef.h>\n#include <stdio.h>\nint main(void) {\n${lines}\n}\n`;
    writeFileSync(join(folder, 'layout.c'), program);
    execFileSync('cc', ['-o', join(folder, 'layout'), join(folder, 'layout.c')]);
    const values = execFileSync(join(folder, 'layout'), { encoding: 'utf8' }).split('\n');
    return Object.fromEntries(expressions.map((one, index) => [one, Number(values[index])]));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** What Debian 12's header (7.38) does not know yet. */
const newer = new Set(['STATX', 'COPY_FILE_RANGE_64', 'DIRECT_IO_ALLOW_MMAP', 'PASSTHROUGH', 'HAS_RESEND']);

const word = (struct: string, field: string): string => `offsetof(struct ${struct}, ${field}) / 4`;

function expected(): Record<string, number> {
  const values: Record<string, number> = {};
  const add = (names: Record<string, number>, expression: (name: string) => string): void => {
    for (const [name, value] of Object.entries(names)) if (!newer.has(name)) values[expression(name)] = value;
  };
  const { Opcode, Notification, Init, Init2, OpenFlag, SetAttr, InHeader } = protocol;
  add(Opcode, (name) => `FUSE_${name}`);
  add(Notification, (name) => `FUSE_NOTIFY_${name}`);
  add(Init, (name) => `FUSE_${name}`);
  add(Init2, (name) => `FUSE_${name} >> 32`);
  add(OpenFlag, (name) => `FOPEN_${name}`);
  add(SetAttr, (name) => `FATTR_${name}`);
  add(InHeader, (name) => word('fuse_in_header', name));
  const { InitIn, InitOut, ARGUMENT } = protocol;
  const initIn = {
    major: 'major',
    minor: 'minor',
    maxReadahead: 'max_readahead',
    flags: 'flags',
    flags2: 'flags2',
  };
  for (const [name, field] of Object.entries(initIn)) {
    values[`${ARGUMENT} + ${word('fuse_init_in', field)}`] = InitIn[name as keyof typeof InitIn];
  }
  const initOut = {
    ...initIn,
    background: 'max_background',
    maxWrite: 'max_write',
    timeGranularity: 'time_gran',
    maxPages: 'max_pages',
    maxStackDepth: 'unused',
  };
  for (const [name, field] of Object.entries(initOut)) {
    values[word('fuse_init_out', field)] = InitOut[name as keyof typeof InitOut];
  }
  return Object.assign(values, {
    'sizeof(struct fuse_in_header)': protocol.IN_HEADER_SIZE,
    'sizeof(struct fuse_out_header)': protocol.OUT_HEADER_SIZE,
    'sizeof(struct fuse_attr)': protocol.ATTR_SIZE,
    'sizeof(struct fuse_entry_out)': protocol.ENTRY_OUT_SIZE,
    'sizeof(struct fuse_attr_out)': protocol.ATTR_OUT_SIZE,
    'sizeof(struct fuse_open_out)': protocol.OPEN_OUT_SIZE,
    'sizeof(struct fuse_init_out)': protocol.INIT_OUT_SIZE,
    'offsetof(struct fuse_dirent, name)': protocol.DIRENT_SIZE,
    FUSE_EXPIRE_ONLY: protocol.EXPIRE_ONLY,
    FUSE_GETATTR_FH: protocol.GETATTR_FH,
    FUSE_OPEN_KILL_SUIDGID: protocol.OPEN_KILL_SUIDGID,
    FUSE_WRITE_KILL_SUIDGID: protocol.WRITE_KILL_SUIDGID,
    FUSE_FSYNC_FDATASYNC: protocol.FSYNC_FDATASYNC,
    FUSE_SETXATTR_ACL_KILL_SGID: protocol.SETXATTR_ACL_KILL_SGID,
  });
}

/** Arguments without a name: exactly the structure. With one: the structure and the shortest names. */
const structures: Record<string, [struct: string, names: number]> = {
  FORGET: ['fuse_forget_in', 0],
  GETATTR: ['fuse_getattr_in', 0],
  SETATTR: ['fuse_setattr_in', 0],
  MKNOD: ['fuse_mknod_in', 1],
  MKDIR: ['fuse_mkdir_in', 1],
  RENAME: ['fuse_rename_in', 2],
  RENAME2: ['fuse_rename2_in', 2],
  LINK: ['fuse_link_in', 1],
  OPEN: ['fuse_open_in', 0],
  OPENDIR: ['fuse_open_in', 0],
  READ: ['fuse_read_in', 0],
  READDIR: ['fuse_read_in', 0],
  READDIRPLUS: ['fuse_read_in', 0],
  WRITE: ['fuse_write_in', 0],
  RELEASE: ['fuse_release_in', 0],
  RELEASEDIR: ['fuse_release_in', 0],
  FSYNC: ['fuse_fsync_in', 0],
  FSYNCDIR: ['fuse_fsync_in', 0],
  GETXATTR: ['fuse_getxattr_in', 1],
  LISTXATTR: ['fuse_getxattr_in', 0],
  FLUSH: ['fuse_flush_in', 0],
  CREATE: ['fuse_create_in', 1],
  TMPFILE: ['fuse_create_in', 0],
  INTERRUPT: ['fuse_interrupt_in', 0],
  BATCH_FORGET: ['fuse_batch_forget_in', 0],
  FALLOCATE: ['fuse_fallocate_in', 0],
  LSEEK: ['fuse_lseek_in', 0],
  COPY_FILE_RANGE: ['fuse_copy_file_range_in', 0],
};

test('numbers and offsets are those of the kernel header', () => {
  const values = expected();
  expect(evaluate(Object.keys(values))).toEqual(values);
});

test('a request shorter than its structure is recognised', () => {
  const sizes = evaluate(Object.values(structures).map(([struct]) => `sizeof(struct ${struct})`));
  for (const [name, [struct, names]] of Object.entries(structures)) {
    const opcode = protocol.Opcode[name as keyof typeof protocol.Opcode];
    expect([name, protocol.argumentSize[opcode]]).toEqual([
      name,
      (sizes[`sizeof(struct ${struct})`] ?? 0) + names,
    ]);
  }
});
