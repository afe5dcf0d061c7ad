import { isModulePath, moduleType } from '../../config/schema.js';
import type { BackendType } from '../backend-type.js';
import { layered } from '../layers/stack.js';

/** The type of a mount: one that we know, or the module that it names, in the layers of every remote store. */
export function backendType(types: Readonly<Record<string, BackendType>>, name: string): BackendType {
  const known = Object.hasOwn(types, name) ? types[name] : undefined;
  if (known !== undefined) return known;
  if (!isModulePath(name)) throw new RangeError(`no backend of type ${name}`);
  return {
    ...moduleType,
    load: async () => layered(await (await import('./module.js')).loadModule(name)),
  };
}
