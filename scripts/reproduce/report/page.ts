/** A table as rows of cells; the first row is the heading. */
export type Table = readonly (readonly string[])[];

export interface Section {
  title: string;
  /** Of the heading; 2 if nothing is said. */
  level?: 1 | 2 | 3;
  /** Paragraphs. */
  text?: string | readonly string[];
  table?: Table;
  /** SVG; in the page only. */
  charts?: readonly string[];
}

const paragraphs = (text: Section['text']): readonly string[] => [text ?? []].flat();

export function markdown(sections: readonly Section[]): string {
  const row = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  return sections
    .map(({ level = 2, title, text, table, charts }) => {
      const lines = [`${'#'.repeat(level)} ${title}`, ''];
      for (const paragraph of paragraphs(text)) lines.push(paragraph, '');
      if (table !== undefined) {
        const [heading, ...rows] = table;
        lines.push(row(heading), row(heading.map(() => '---')), ...rows.map(row), '');
      }
      if (charts !== undefined) lines.push('The curves are in [reproduction.html](reproduction.html).', '');
      return lines.join('\n');
    })
    .join('\n');
}

const escaped = (text: string) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
/** The little Markdown that our texts use. */
const inline = (text: string) =>
  escaped(text)
    .replaceAll(/`([^`]*)`/g, '<code>$1</code>')
    .replaceAll(/\*([^*]+)\*/g, '<em>$1</em>');

const STYLE =
  'body{font:15px/1.5 system-ui,sans-serif;max-width:1200px;margin:2em auto;padding:0 1em;color:#222}table{border-collapse:collapse;' +
  'font-size:13px}td,th{border:1px solid #ccc;padding:3px 8px;text-align:left}th{background:#f4f4f4}';

/** One file, without scripts, readable without a network. */
export function html(sections: readonly Section[]): string {
  const row = (tag: string, cells: readonly string[]) =>
    `<tr>${cells.map((cell) => `<${tag}>${inline(cell)}</${tag}>`).join('')}</tr>`;
  const body = sections.map(({ level = 2, title, text, table, charts }) => {
    const parts = [`<h${level}>${escaped(title)}</h${level}>`];
    for (const paragraph of paragraphs(text)) parts.push(`<p>${inline(paragraph)}</p>`);
    if (table !== undefined) {
      const [heading, ...rows] = table;
      parts.push(`<table>${row('th', heading)}${rows.map((cells) => row('td', cells)).join('\n')}</table>`);
    }
    return [...parts, ...(charts ?? [])].join('\n');
  });
  return `<!doctype html><html lang="en"><meta charset="utf-8"><title>${escaped(sections[0].title)}</title><style>${STYLE}</style>\n${body.join('\n')}\n</html>\n`;
}
