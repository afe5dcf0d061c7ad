import { readFileSync } from 'node:fs';
import { MirageError } from '../errors/mirage-error.js';
import { isSecretName, type Redaction } from '../log/redaction.js';

export interface InterpolationSource {
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Gets the values that must not be shown. */
  readonly redaction: Redaction;
}

/**
 * Replaces `${VAR}`, `${VAR:-default}`, `${VAR:?message}` and `${file:/path}` (the file's text without the last newline);
 * `$$` is a dollar sign. EINVAL: not set, not readable, or no such form.
 */
export function interpolate(text: string, source: InterpolationSource): string {
  return text.replace(/\$(?:\$|\{([^}]*)\})/g, (match, body: string | undefined) =>
    match === '$$' ? '$' : resolve(body ?? '', source),
  );
}

export const isInterpolated = (text: string): boolean => /\$\{[^}]*\}/.test(text);

function resolve(body: string, source: InterpolationSource): string {
  if (body.startsWith('file:')) return fromFile(body.slice('file:'.length), source);
  const [, name, operator, rest] = /^([A-Za-z_]\w*)(?:(:-|:\?)(.*))?$/s.exec(body) ?? [];
  if (name === undefined) {
    throw new MirageError(`\${${body}} is no variable`, {
      errno: 'EINVAL',
      hint: `write \${NAME}, \${NAME:-default}, \${NAME:?message} or \${file:/path}; a plain dollar sign is $$`,
    });
  }
  const value = source.environment[name];
  if (value !== undefined && value !== '') {
    if (isSecretName(name)) source.redaction.add(value);
    return value;
  }
  if (operator === ':-') return rest ?? '';
  if (operator === undefined && value === '') return value;
  throw new MirageError(
    operator === ':?' && rest ? `${name} is not set: ${rest}` : `the variable ${name} is not set`,
    { errno: 'EINVAL', hint: `set it (export ${name}=…), or give a default: \${${name}:-…}` },
  );
}

function fromFile(path: string, source: InterpolationSource): string {
  try {
    const value = readFileSync(path, 'utf8').replace(/\r?\n$/, '');
    source.redaction.add(value);
    return value;
  } catch (cause) {
    throw new MirageError(`cannot read ${path}`, {
      errno: 'EINVAL',
      cause,
      hint: `make the file, readable by this user, or change \${file:${path}}`,
    });
  }
}
