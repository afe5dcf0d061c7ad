/** What POSIX says of a tree, and random operations that a mount and the model of it both carry out. */
import fc from 'fast-check';
import type { Bucket } from './bucket.js';
import { errorOf, type Tree } from './tree.js';

const O_WRONLY = 1;
const O_APPEND = 0o2000;

interface File {
  text: string;
  mode: number;
}
type Folder = Map<string, File | Folder>;

/** What POSIX says of a tree of files, directories and hard links. */
export class Model {
  readonly root: Folder = new Map();

  find(path: string): File | Folder | undefined {
    let at: File | Folder | undefined = this.root;
    for (const name of path.split('/')) at = at instanceof Map ? at.get(name) : undefined;
    return at;
  }
  /** The directory of a path and the last name; an error name where there is none. */
  #place(path: string): [Folder, string] | string {
    const names = path.split('/');
    const name = names.pop() as string;
    if (names.length === 0) return [this.root, name];
    const folder = this.find(names.join('/'));
    return folder instanceof Map ? [folder, name] : 'ENOENT';
  }

  write(path: string, text: string): string {
    const place = this.#place(path);
    if (typeof place === 'string') return place;
    const there = place[0].get(place[1]);
    if (there instanceof Map) return 'EISDIR';
    if (there === undefined) place[0].set(place[1], { text, mode: 0o644 });
    else there.text = text;
    return 'success';
  }
  append(path: string, text: string): string {
    const file = this.find(path);
    if (file === undefined) return 'ENOENT';
    if (file instanceof Map) return 'EISDIR';
    file.text += text;
    return 'success';
  }
  truncate(path: string, size: number): string {
    const file = this.find(path);
    if (file === undefined) return 'ENOENT';
    if (file instanceof Map) return 'EISDIR';
    file.text = file.text.slice(0, size).padEnd(size, '\0');
    return 'success';
  }
  chmod(path: string, mode: number): string {
    const file = this.find(path);
    if (file === undefined) return 'ENOENT';
    if (!(file instanceof Map)) file.mode = mode;
    return 'success';
  }
  mkdir(path: string): string {
    const place = this.#place(path);
    if (typeof place === 'string') return place;
    if (place[0].has(place[1])) return 'EEXIST';
    place[0].set(place[1], new Map());
    return 'success';
  }
  rmdir(path: string): string {
    const place = this.#place(path);
    const there = this.find(path);
    if (typeof place === 'string' || there === undefined) return 'ENOENT';
    if (!(there instanceof Map)) return 'ENOTDIR';
    if (there.size > 0) return 'ENOTEMPTY';
    place[0].delete(place[1]);
    return 'success';
  }
  unlink(path: string): string {
    const place = this.#place(path);
    const there = this.find(path);
    if (typeof place === 'string' || there === undefined) return 'ENOENT';
    if (there instanceof Map) return 'EISDIR';
    place[0].delete(place[1]);
    return 'success';
  }
  link(from: string, to: string): string {
    const file = this.find(from);
    const place = this.#place(to);
    if (file === undefined || typeof place === 'string') return 'ENOENT';
    if (place[0].has(place[1])) return 'EEXIST';
    if (file instanceof Map) return 'EPERM';
    place[0].set(place[1], file);
    return 'success';
  }
  rename(from: string, to: string): string {
    const source = this.find(from);
    const here = this.#place(from);
    const there = this.#place(to);
    if (source === undefined || typeof here === 'string' || typeof there === 'string') return 'ENOENT';
    const target = this.find(to);
    if (source === target) return 'success';
    if (source instanceof Map && to.startsWith(`${from}/`)) return 'EINVAL';
    if (target instanceof Map && from.startsWith(`${to}/`)) return 'ENOTEMPTY';
    if (source instanceof Map && target !== undefined && !(target instanceof Map)) return 'ENOTDIR';
    if (!(source instanceof Map) && target instanceof Map) return 'EISDIR';
    if (target instanceof Map && target.size > 0) return 'ENOTEMPTY';
    here[0].delete(here[1]);
    there[0].set(there[1], source);
    return 'success';
  }

  /** Every path with what stat and read must show. */
  show(): Record<string, string> {
    const links = new Map<File, number>();
    const all: [string, File | Folder][] = [];
    const walk = (folder: Folder, prefix: string): void => {
      for (const [name, node] of folder) {
        all.push([prefix + name, node]);
        if (node instanceof Map) walk(node, `${prefix}${name}/`);
        else links.set(node, (links.get(node) ?? 0) + 1);
      }
    };
    walk(this.root, '');
    return Object.fromEntries(
      all.map(([path, node]) => [
        path,
        node instanceof Map ? 'directory' : `${node.mode.toString(8)} ${links.get(node)} ${node.text}`,
      ]),
    );
  }
}

/** Carries out one operation on both; resolves with what each answered. */
export type Step = (tree: Tree, model: Model, bucket: Bucket) => Promise<[string, string]>;
export class Operation {
  constructor(
    readonly text: string,
    readonly run: Step,
  ) {}
  [fc.toStringMethod](): string {
    return this.text;
  }
}

const path = fc
  .array(fc.constantFrom('a', 'b', 'c'), { minLength: 1, maxLength: 3 })
  .map((names) => names.join('/'));
const text = fc.string({ unit: fc.constantFrom('x', 'y'), maxLength: 6 });

// What the kernel does before it asks a file system.

const refusal = (code: string): Error => Object.assign(new Error(code), { code });

const isDirectory = async (tree: Tree, at: string): Promise<boolean> =>
  (await tree.stat(at)).mode >>> 12 === 4;

async function refuseDirectory(tree: Tree, at: string): Promise<void> {
  if (await isDirectory(tree, at)) throw refusal('EISDIR');
}

async function writeFile(tree: Tree, at: string, content: string): Promise<void> {
  if (await tree.exists(at)) await refuseDirectory(tree, at);
  await tree.writeFile(at, content);
}

async function append(tree: Tree, at: string, content: string): Promise<void> {
  await refuseDirectory(tree, at);
  const open = await tree.open(at, O_WRONLY | O_APPEND);
  await tree.write(open, 0, content);
  await tree.close2(open);
}

async function mkdir(tree: Tree, at: string): Promise<void> {
  if (await tree.exists(at)) throw refusal('EEXIST');
  await tree.mkdir(at);
}

async function rename(tree: Tree, from: string, to: string): Promise<void> {
  if (from.startsWith(`${to}/`) && (await tree.exists(from))) throw refusal('ENOTEMPTY');
  await tree.rename(from, to);
}

async function link(tree: Tree, from: string, to: string): Promise<void> {
  await tree.stat(from);
  if (await tree.exists(to)) throw refusal('EEXIST');
  await tree.link(from, to);
}

/** What another host does, where it makes sense as a tree; seen here when the ttl has passed. */
const external = (key: string, content: string | undefined): Step => {
  return async (tree, model, bucket) => {
    await tree.volume.drain();
    const names = key.split('/');
    const above = names.slice(0, -1).join('/');
    const folder = above === '' ? model.root : model.find(above);
    const there = model.find(key);
    if (!(folder instanceof Map) || there instanceof Map) return ['', ''];
    if (content === undefined) {
      // A directory without a marker would go with its last object.
      if (there === undefined || (above !== '' && !bucket.objects.has(`${above}/`))) return ['', ''];
      bucket.objects.delete(key);
      folder.delete(names.at(-1) as string);
    } else {
      bucket.put(key, content);
      folder.set(names.at(-1) as string, { text: content, mode: 0o644 });
    }
    tree.later += 61_000;
    return ['', ''];
  };
};

type Action = (tree: Tree, model: Model) => [() => Promise<void>, () => string];

/** Both do the same; a reader of a failure sees `text`. */
const both = (text: string, action: Action): Operation =>
  new Operation(text, async (tree, model) => {
    const [act, expected] = action(tree, model);
    return [await errorOf(act), expected()];
  });

export const operation: fc.Arbitrary<Operation> = fc.oneof(
  fc
    .tuple(path, text)
    .map(([at, content]) =>
      both(`write ${at} ${content}`, (tree, model) => [
        () => writeFile(tree, at, content),
        () => model.write(at, content),
      ]),
    ),
  fc
    .tuple(path, text)
    .map(([at, content]) =>
      both(`append ${at} ${content}`, (tree, model) => [
        () => append(tree, at, content),
        () => model.append(at, content),
      ]),
    ),
  fc.tuple(path, fc.nat(8)).map(([at, size]) =>
    both(`truncate ${at} ${size}`, (tree, model) => [
      async () => {
        await refuseDirectory(tree, at);
        await tree.change(at, { size });
      },
      () => model.truncate(at, size),
    ]),
  ),
  fc
    .tuple(path, fc.constantFrom(0o600, 0o755))
    .map(([at, mode]) =>
      both(`chmod ${at} ${mode.toString(8)}`, (tree, model) => [
        () => tree.change(at, { mode }),
        () => model.chmod(at, mode),
      ]),
    ),
  path.map((at) => both(`mkdir ${at}`, (tree, model) => [() => mkdir(tree, at), () => model.mkdir(at)])),
  path.map((at) => both(`rmdir ${at}`, (tree, model) => [() => tree.rmdir(at), () => model.rmdir(at)])),
  path.map((at) =>
    both(`unlink ${at}`, (tree, model) => [
      async () => {
        await refuseDirectory(tree, at);
        await tree.unlink(at);
      },
      () => model.unlink(at),
    ]),
  ),
  fc
    .tuple(path, path)
    .map(([from, to]) =>
      both(`link ${from} ${to}`, (tree, model) => [() => link(tree, from, to), () => model.link(from, to)]),
    ),
  fc
    .tuple(path, path)
    .map(([from, to]) =>
      both(`rename ${from} ${to}`, (tree, model) => [
        () => rename(tree, from, to),
        () => model.rename(from, to),
      ]),
    ),
  fc
    .tuple(path, text)
    .map(([key, content]) => new Operation(`put ${key} ${content}`, external(key, content))),
  path.map((key) => new Operation(`delete ${key}`, external(key, undefined))),
);

/** The whole tree of a mount, as `Model.show` has it. */
export async function show(tree: Tree, prefix = ''): Promise<Record<string, string>> {
  const all: Record<string, string> = {};
  for (const name of await tree.list(prefix)) {
    const at = prefix + name;
    const { mode, nlink } = await tree.stat(at);
    if (mode >>> 12 === 4) {
      all[at] = 'directory';
      Object.assign(all, await show(tree, `${at}/`));
    } else all[at] = `${(mode & 0o7777).toString(8)} ${nlink} ${await tree.readFile(at)}`;
  }
  return all;
}
