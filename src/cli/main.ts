#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command, CommanderError } from 'commander';
import { Redaction } from '../log/redaction.js';
import { packageRoot } from '../native/load.js';
import { exitCodeOf, exitCodes } from './exit-codes.js';
import { Output } from './output.js';

// Who reads no more (`mirage status | head -1`) ends no daemon and gets no stack trace.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
  });
}

let redaction = new Redaction();
const output = new Output(() => redaction);
const conceal = (known: typeof redaction): void => {
  redaction = known;
};
const { version } = JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')) as {
  version: string;
};

/** What the command that ran returns to the shell. */
let exitCode: number = exitCodes.ok;
const run =
  <P extends readonly unknown[]>(action: (...parameters: P) => number | Promise<number>) =>
  async (...parameters: P): Promise<void> => {
    exitCode = await action(...parameters);
  };

/** The code of a command is loaded when it runs: most need little of what mounting needs. */
const types = async () => (await import('../backends/registry.js')).backendTypes;

const collect = (value: string, before: readonly string[] = []): readonly string[] => [...before, value];

const program = new Command('mirage')
  .description('Mounts object stores, servers of files, local folders and memory as one real file tree.')
  .version(version)
  .exitOverride()
  .showSuggestionAfterError()
  .configureHelp({ showGlobalOptions: false })
  .configureOutput({ outputError: (text) => output.usage(text) })
  .addHelpText(
    'after',
    `
Exit codes: 0 ok, 1 failure, 2 usage, 3 not found, 4 access denied, 5 try again later, 8 mounted in part

Examples:
  mirage mount ram: /mnt                        memory, gone after unmount
  mirage mount s3://bucket/folder /mnt          a bucket, read only
  mirage mount sftp://user@host/folder /mnt     what ssh can reach; also gs, azure, webdav(s), http(s)
  mirage mount --config mirage.yaml /mnt        several stores in one tree
  mirage unmount /mnt`,
  );

program
  .command('mount')
  .description('mount a source, or what a configuration file lists')
  .argument('[source]', 's3://bucket/prefix, https://host/folder/, file:///folder or ram:')
  .argument('[mountpoint]', 'empty folder where the tree appears')
  .option('-c, --config <file>', 'configuration file (MIRAGE_CONFIG; default: see below)')
  .option('-o <key=value,...>', 'keys of the configuration', collect)
  .option('-f, --foreground', 'stay; end when unmounted or on SIGTERM')
  .addHelpText(
    'after',
    `
Returns when the mount answers and the credentials are proved. The mode is read unless the configuration says
write or exec. Without source and --config: ./mirage.yaml, ~/.config/mirage/config.yaml, ~/.mirage/config.yaml,
/etc/mirage/config.yaml. Secrets come from the environment, the SDK's own places, or files, never from -o.

Examples:
  mirage mount file:///data /mnt -o mode=write
  mirage mount s3://bucket /mnt -o mode=write,endpoint=http://127.0.0.1:9000,region=us-east-1
  mirage mount --config mirage.yaml`,
  )
  .action(
    run(async (source: string | undefined, mountpoint: string | undefined, options: MountFlags) => {
      const { mount } = await import('./mount.js');
      const command = {
        positional: [source, mountpoint].filter((word) => word !== undefined),
        ...(options.config !== undefined && { config: options.config }),
        option: options.o ?? [],
        foreground: options.foreground ?? false,
      };
      return mount(command, { output, types: await types(), version, conceal });
    }),
  );

program
  .command('unmount')
  .alias('umount')
  .description('store what is pending, then unmount')
  .argument('<mountpoint>')
  .option('--force', 'unmount even if programs use it or something cannot be stored')
  .action(
    run(async (folder: string, options: { force?: boolean }) => {
      const { unmount } = await import('./unmount.js');
      return unmount(folder, options.force ?? false, output);
    }),
  );

program
  .command('drain')
  .description('bring everything that was written to its store; the mount stays')
  .argument('<mountpoint>')
  .action(
    run(async (folder: string) => {
      const { drain } = await import('./drain.js');
      return drain(folder, output);
    }),
  );

program
  .command('status')
  .description('what is mounted, by every daemon of this user')
  .argument('[mountpoint]')
  .option('--json', 'for programs')
  .action(
    run(async (folder: string | undefined, options: { json?: boolean }) => {
      const { status } = await import('./status.js');
      return status(folder, options.json ?? false, output);
    }),
  );

program
  .command('doctor')
  .description('check this machine, the configuration and its stores')
  .option('-c, --config <file>')
  .action(
    run(async (options: { config?: string }) => {
      const { doctor } = await import('./doctor.js');
      return doctor(options.config, { output, types: await types(), conceal });
    }),
  );

program
  .command('fsck')
  .description('check cache, metadata and journal while nothing is mounted')
  .argument('[mountpoint]')
  .option('-c, --config <file>')
  .option('--repair', 'mend what is wrong; what may be the only copy of something goes to recovered/')
  .addHelpText(
    'after',
    `
Exit codes: 0 nothing is wrong (any more), 1 something is, 3 nothing to check, 5 a daemon uses it: unmount first`,
  )
  .action(
    run(async (mountpoint: string | undefined, options: { config?: string; repair?: boolean }) => {
      const { fsck } = await import('./fsck.js');
      const { config, repair = false } = options;
      return fsck({ mountpoint, config, repair }, { output, types: await types() });
    }),
  );

const caching = () => import('./cache.js');
const cache = program.command('cache').description('what is cached of a file or folder of a mount');
cache
  .command('stat')
  .argument('<path>')
  .option('--json', 'for programs')
  .description('how much of it is cached')
  .action(
    run(async (path: string, options: { json?: boolean }) =>
      (await caching()).cacheStat(path, options.json ?? false, output),
    ),
  );
cache
  .command('warm')
  .argument('<path>')
  .description('fetch it, so that programs need not wait for the store')
  .action(run(async (path: string) => (await caching()).cacheWarm(path, output)));
cache
  .command('drop')
  .argument('<path>')
  .description('forget what is cached of it')
  .action(run(async (path: string) => (await caching()).cacheDrop(path, output)));

const configuring = () => import('./config.js');
const config = program.command('config').description('check, begin or describe a configuration file');
config
  .command('check')
  .argument('[file]')
  .description('say what is wrong, with file and line')
  .action(
    run(async (file: string | undefined) => (await configuring()).checkConfig(file, await types(), output)),
  );
config
  .command('init')
  .argument('[file]', 'file to write', 'mirage.yaml')
  .description('write a commented configuration')
  .action(run(async (file: string) => (await configuring()).initConfig(file, await types(), output)));
config
  .command('schema')
  .description('print the JSON schema for editors')
  .action(run(async () => (await configuring()).printSchema(await types(), output)));

program
  .command('backend')
  .description('for those who write a backend of their own')
  .command('test')
  .argument('<module>', 'its file: ./my-backend.mjs')
  .option('--options <file>', 'YAML with the keys that the mount would have')
  .option('--json', 'for programs')
  .description('check every promise of the contract; writes into the store, and removes what it wrote')
  .action(
    run(async (module: string, { options, json = false }: { options?: string; json?: boolean }) => {
      const { testBackend } = await import('./backend.js');
      return testBackend({ module, options, json }, { output, conceal });
    }),
  );

interface MountFlags {
  readonly config?: string;
  readonly o?: readonly string[];
  readonly foreground?: boolean;
}

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) {
    exitCode = error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
  } else {
    output.error(error);
    exitCode = exitCodeOf(error);
  }
}
process.exitCode = exitCode;
