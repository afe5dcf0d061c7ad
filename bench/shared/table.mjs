// @ts-check

/**
 * A plain text table; the first column is left-aligned, the others right-aligned.
 * @param {readonly string[]} head
 * @param {readonly (readonly string[])[]} rows
 */
export function table(head, rows) {
  const widths = head.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => (row[column] ?? '').length)),
  );
  /** @param {readonly string[]} cells */
  const line = (cells) =>
    widths
      .map((width, column) =>
        column ? (cells[column] ?? '').padStart(width) : (cells[0] ?? '').padEnd(width),
      )
      .join('  ')
      .trimEnd();
  return [line(head), widths.map((width) => '-'.repeat(width)).join('  '), ...rows.map(line)].join('\n');
}

/**
 * Three significant digits with a unit a reader can take in: 213k, 5.91k, 0.84.
 * @param {number} value
 */
export function short(value) {
  if (!Number.isFinite(value)) return '-';
  if (value >= 1e6) return `${(value / 1e6).toPrecision(3)}M`;
  if (value >= 1e5) return `${Math.round(value / 1e3)}k`;
  if (value >= 1e4) return `${(value / 1e3).toFixed(1)}k`;
  if (value >= 1e3) return Math.round(value).toString();
  return value >= 100 ? Math.round(value).toString() : value.toPrecision(3);
}
