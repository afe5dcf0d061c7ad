/** Volumes of one server in one process: the rows of one are the rows of all, so what changes for one has changed for all. */
import type { LocationId, MetadataStore } from '../../metadata/contract.js';

type Listener = () => void;
const volumes = new WeakMap<MetadataStore, Map<LocationId, Set<Listener>>>();

/** Calls back with every change that any of them tells. Returns how to tell one, and the end of it. */
export function shareChanges(
  metadata: MetadataStore,
  location: LocationId,
  onChange: Listener,
): { changed(): void; leave(): void } {
  const locations = volumes.get(metadata) ?? new Map<LocationId, Set<Listener>>();
  volumes.set(metadata, locations);
  const listeners = locations.get(location) ?? new Set<Listener>();
  locations.set(location, listeners);
  listeners.add(onChange);
  return {
    changed() {
      for (const listener of listeners) listener();
    },
    leave() {
      listeners.delete(onChange);
    },
  };
}
