/** For work that other programs depend on as well, and for what is over in a moment: nobody gives it up, and nobody need listen for that. */
export const UNINTERRUPTED: { readonly signal: AbortSignal } = { signal: new AbortController().signal };
