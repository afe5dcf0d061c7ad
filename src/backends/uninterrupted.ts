import type { Context } from './contract.js';

/** For work that other programs depend on as well, and for what is over in a moment: nobody gives it up, and nobody need listen for that. */
export const UNINTERRUPTED: Context = { signal: new AbortController().signal };
