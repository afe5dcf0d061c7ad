import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { MirageError } from '../../errors/mirage-error.js';
import { isSecretName } from '../../log/redaction.js';
import type { BackendModule, OpenedBackend } from '../backend-type.js';
import { adapt, broken, readOnly } from './adapt.js';
import { DOCUMENTATION, toMirageError } from './answers.js';
import type { CustomBackend, CustomModule } from './api.js';

/** Loads the module at an absolute path. ENOENT: there is none; EINVAL: it is no backend. */
export async function loadModule(path: string): Promise<BackendModule> {
  if (!existsSync(path)) {
    throw new MirageError(`${path}: there is no such module`, {
      errno: 'ENOENT',
      hint: 'the type of a mount is a path relative to its configuration file',
    });
  }
  const loaded = await import(pathToFileURL(path).href).catch((cause: unknown) => {
    throw broken(
      path,
      `it cannot be loaded: ${cause instanceof Error ? cause.message : String(cause)}`,
      cause,
    );
  });
  const module = moduleOf(path, loaded);
  return {
    async open(given, context): Promise<OpenedBackend> {
      const options = checked(path, module, given as Readonly<Record<string, unknown>>);
      const { log, signal, writable } = context;
      let custom: CustomBackend;
      try {
        custom = await module.open(options as never, { signal, writable, log });
      } catch (error) {
        throw toMirageError(error, `${path}: open`);
      }
      const backend = adapt(path, custom);
      if (writable && backend.capabilities.readOnly === true) {
        await backend.close?.();
        throw readOnly(path);
      }
      const { preconditions, ...others } = backend.capabilities;
      return {
        backend,
        identity: custom.identity ?? `custom:${path}:${digest(given)}`,
        probed: { ...preconditions, attributes: others.attributes, readOnly: others.readOnly === true },
      };
    },
  };
}

function moduleOf(path: string, loaded: unknown): CustomModule {
  const exported = loaded as Partial<CustomModule> & { default?: Partial<CustomModule> };
  const module = typeof exported.open === 'function' ? exported : (exported.default ?? exported);
  if (typeof module.open === 'function') return module as CustomModule;
  const names = Object.keys(exported);
  const found = names.length === 0 ? 'nothing' : names.join(', ');
  throw broken(path, `it exports no function open (it exports ${found})`);
}

function checked(path: string, { options }: CustomModule, given: Readonly<Record<string, unknown>>): unknown {
  if (options === undefined) return given;
  try {
    return typeof options === 'function' ? options(given) : options.parse(given);
  } catch (cause) {
    throw new MirageError(`${path} refuses its options: ${reasonOf(cause)}`, {
      errno: 'EINVAL',
      cause,
      hint: `correct the keys of the mount; ${DOCUMENTATION}`,
    });
  }
}

/** Schema libraries put the list of what is wrong into the error; its message is JSON then. */
function reasonOf(error: unknown): string {
  const { issues } = error as { issues?: readonly { message?: unknown; path?: readonly PropertyKey[] }[] };
  if (!Array.isArray(issues)) return error instanceof Error ? error.message : String(error);
  return issues.map(({ path = [], message }) => `${path.map(String).join('.')}: ${message}`).join('; ');
}

/** Of the options that are no secrets. */
function digest(options: unknown): string {
  const text = JSON.stringify(options, (name, value) => (isSecretName(name) ? undefined : value));
  return createHash('sha256')
    .update(text ?? '')
    .digest('hex')
    .slice(0, 16);
}
