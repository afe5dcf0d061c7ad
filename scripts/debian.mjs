/** Debian packages that a step needs: installed when root, otherwise the line to type is printed. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';

const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin'];
const command = (name) => () => folders.some((folder) => folder !== '' && existsSync(join(folder, name)));
const library = (name) => () =>
  ['/usr/lib', '/lib', '/usr/lib64', ...libraryFolders].some((folder) => existsSync(join(folder, name)));
const libraryFolders = ['x86_64', 'aarch64'].map((machine) => `/usr/lib/${machine}-linux-gnu`);

/** To compile the native parts. */
export const toBuild = [
  { name: 'build-essential', present: () => command('c++')() && command('cc')() && command('make')() },
  { name: 'python3', present: command('python3') },
];

/** To mount. */
export const toMount = [{ name: 'fuse3', present: command('fusermount3') }];

/** To run the tests: the programs that use the mount, and the servers behind it. */
export const toTest = [
  { name: 'acl', present: command('setfacl') },
  { name: 'apache2', present: command('apache2') },
  { name: 'attr', present: command('setfattr') },
  { name: 'ceph-common', present: command('ceph') },
  { name: 'ceph-mon', present: command('ceph-mon') },
  { name: 'ceph-osd', present: command('ceph-osd') },
  { name: 'curl', present: command('curl') },
  { name: 'git', present: command('git') },
  { name: 'libfuse2', present: library('libfuse.so.2') },
  { name: 'nginx-extras', present: command('nginx') },
  { name: 'openssh-client', present: command('ssh') },
  { name: 'openssh-server', present: command('sshd') },
  { name: 'openssl', present: command('openssl') },
  { name: 'radosgw', present: command('radosgw') },
  { name: 'rsync', present: command('rsync') },
  { name: 'sqlite3', present: command('sqlite3') },
  { name: 'systemd', present: command('systemd-analyze') },
];

/** Exits with the line to type when something is missing and cannot be installed from here. */
export function ensureDebianPackages(needs) {
  if (process.platform !== 'linux') return;
  const missing = needs.filter((need) => !need.present()).map((need) => need.name);
  if (missing.length === 0) return;
  const install = `apt-get install -y --no-install-recommends ${missing.join(' ')}`;
  if (!command('apt-get')()) {
    stop(
      `missing: ${missing.join(', ')}`,
      'this machine has no apt-get',
      'install them with its own package tool',
    );
  }
  if (process.getuid() !== 0) {
    stop(`missing: ${missing.join(', ')}`, 'installing them needs root', `type: sudo ${install}`);
  }
  console.log(`Installing Debian packages: ${missing.join(' ')}`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  for (const line of ['apt-get update', install]) {
    const [program, ...options] = line.split(' ');
    const { status, stdout, stderr } = spawnSync(program, options, { env, encoding: 'utf8' });
    if (status !== 0) {
      process.stderr.write(`${stdout ?? ''}${stderr ?? ''}`);
      stop(`failed: ${line}`, 'see its output above', `type: ${line}`);
    }
  }
}

/** What, why, what to do; then the end. */
export function stop(what, why, remedy) {
  console.error(`mirage: ${what}\n  why: ${why}\n  do:  ${remedy}`);
  process.exit(1);
}
