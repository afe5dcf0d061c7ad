/** Values that must never be shown: whatever a person or a log gets to read passes through here. */
export class Redaction {
  readonly #values = new Set<string>();

  /** Shorter values would blank out ordinary words, and are no secret to anybody. */
  static readonly minimumLength = 4;

  add(value: string): void {
    if (value.length >= Redaction.minimumLength) this.#values.add(value);
  }

  get values(): readonly string[] {
    return [...this.#values];
  }

  apply(text: string): string {
    let shown = text;
    for (const value of this.#values) {
      shown = shown.replaceAll(value, '[redacted]');
      // The form it has inside JSON and inside a URL.
      const json = JSON.stringify(value).slice(1, -1);
      if (json !== value) shown = shown.replaceAll(json, '[redacted]');
      const url = encodeURIComponent(value);
      if (url !== value) shown = shown.replaceAll(url, '[redacted]');
    }
    return shown;
  }
}

/** Names of options, variables and fields whose value is a secret. */
export const isSecretName = (name: string): boolean =>
  /secret|passw(or)?d|passphrase|token|private_?key|account_?key|connection_?string/i.test(name);
