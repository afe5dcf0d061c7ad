/** Listings that the kernel keeps end in their time. */
import { afterEach, beforeEach, expect, jest, test } from '@jest/globals';
import type { ListingState } from '../../src/metadata/contract.js';
import { KernelListings } from '../../src/vfs/object/kernel-listings.js';
import { type KernelNotifier, type NodeId, OpenReply } from '../../src/vfs/operations.js';

const SECOND = 1e9;
const state = { order: 1, names: 3 } as ListingState;

let dropped: NodeId[];
let listings: KernelListings;
beforeEach(() => {
  jest.useFakeTimers();
  dropped = [];
  const notifier: KernelNotifier = {
    invalidateNode: (node) => void dropped.push(node),
    invalidateEntry: () => undefined,
    unsettle: () => undefined,
  };
  listings = new KernelListings(notifier, { wall: Date.now, monotonic: () => performance.now() });
});
afterEach(() => {
  listings.close();
  jest.useRealTimers();
});

/** A program that has the directory open and has read it to its end. */
function readBy(node: NodeId, seconds: number): void {
  const kept = listings.opened(node, state, true, new OpenReply());
  if (kept === undefined) throw new Error('the kernel was told to keep nothing');
  listings.began(kept, state);
  listings.read(kept, seconds * SECOND);
  listings.ended(kept, state, seconds * SECOND);
}

test('of several open directories each is read anew when its own time is over', () => {
  readBy(1, 60);
  readBy(2, 2);
  readBy(3, 10);
  jest.advanceTimersByTime(1999);
  expect(dropped).toEqual([]);
  jest.advanceTimersByTime(2);
  expect(dropped).toEqual([2]);
  jest.advanceTimersByTime(8000);
  expect(dropped).toEqual([2, 3]);
  jest.advanceTimersByTime(50_000);
  expect(dropped).toEqual([2, 3, 1]);
  expect(jest.getTimerCount()).toBe(0);
});
