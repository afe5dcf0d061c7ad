// @ts-check

/**
 * @typedef {{ label: string, value: number, text: string, strong?: boolean }} Bar
 * @typedef {{ title: string, note: string, bars: readonly Bar[] }} Panel
 */

const WIDTH = 940;
const COLUMNS = 2;
const GAP = 28;
const LABEL = 150;
const VALUE = 64;
const ROW = 19;
const HEAD = 42;

/** @param {string} text */
const escaped = (text) => text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;');

/**
 * Panels of horizontal bars as an SVG image, two side by side. Readable on light and dark pages.
 * @param {string} title
 * @param {string} subtitle
 * @param {readonly Panel[]} panels
 */
export function barChart(title, subtitle, panels) {
  const panelWidth = (WIDTH - GAP * (COLUMNS + 1)) / COLUMNS;
  /** @type {string[]} */
  const parts = [];
  let top = 70;
  for (let first = 0; first < panels.length; first += COLUMNS) {
    const row = panels.slice(first, first + COLUMNS);
    row.forEach((panel, column) => {
      parts.push(drawPanel(panel, GAP + column * (panelWidth + GAP), top, panelWidth));
    });
    top += HEAD + Math.max(...row.map((panel) => panel.bars.length)) * ROW + 20;
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${top}" width="${WIDTH}" height="${top}" role="img">
<title>${escaped(title)}</title>
<style>
  text { font: 12px system-ui, sans-serif; fill: #24292f }
  .title { font-size: 18px; font-weight: 600 } .panel { font-size: 13px; font-weight: 600 } .note { fill: #6e7781 }
  .bar { fill: #afb8c1 } .strong { fill: #0969da } .page { fill: #ffffff }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .note { fill: #8b949e } .bar { fill: #484f58 } .strong { fill: #58a6ff } .page { fill: #0d1117 }
  }
</style>
<rect class="page" width="100%" height="100%" rx="6"/>
<text class="title" x="${GAP}" y="34">${escaped(title)}</text>
<text class="note" x="${GAP}" y="54">${escaped(subtitle)}</text>
${parts.join('\n')}
</svg>
`;
}

/**
 * @param {Panel} panel
 * @param {number} left
 * @param {number} top
 * @param {number} width
 */
function drawPanel(panel, left, top, width) {
  const longest = Math.max(...panel.bars.map((bar) => bar.value));
  const room = width - LABEL - VALUE;
  const bars = panel.bars.map((bar, index) => {
    const y = top + HEAD + index * ROW;
    const length = Math.max(1, (bar.value / longest) * room);
    return (
      `<text x="${left + LABEL - 8}" y="${y + 11}" text-anchor="end">${escaped(bar.label)}</text>` +
      `<rect class="${bar.strong ? 'strong' : 'bar'}" x="${left + LABEL}" y="${y}" width="${length.toFixed(1)}" height="14" rx="2"/>` +
      `<text x="${(left + LABEL + length + 6).toFixed(1)}" y="${y + 11}">${escaped(bar.text)}</text>`
    );
  });
  return (
    `<text class="panel" x="${left}" y="${top + 14}">${escaped(panel.title)}</text>` +
    `<text class="note" x="${left}" y="${top + 31}">${escaped(panel.note)}</text>\n${bars.join('\n')}`
  );
}
