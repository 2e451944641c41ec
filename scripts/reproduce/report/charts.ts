import { LineChart, type LineSeriesOption } from 'echarts/charts';
import { GridComponent, LegendComponent, TitleComponent } from 'echarts/components';
import { init, use } from 'echarts/core';
import { SVGRenderer } from 'echarts/renderers';

use([LineChart, GridComponent, LegendComponent, TitleComponent, SVGRenderer]);

/** One line of a chart: y with the half-width of its interval, at x. */
export interface Curve {
  label: string;
  points: readonly { x: number; y: number; halfWidth: number }[];
}

export interface ChartOptions {
  title: string;
  xName: string;
  yName: string;
  /** Fixed range of y; fitted to the data where left out. */
  range?: readonly [number, number];
}

const SIZE = { width: 560, height: 400 };
/** Okabe and Ito's colours, told apart by colour-blind readers too. Curves beyond them have them again, dashed. */
const COLOURS = ['#0072b2', '#e69f00', '#009e73', '#cc79a7', '#d55e00', '#56b4e9', '#999999', '#000000'];

/** Lines with bands of their intervals, as SVG. */
export function lineChart(curves: readonly Curve[], { title, xName, yName, range }: ChartOptions): string {
  const chart = init(null, null, { renderer: 'svg', ssr: true, ...SIZE });
  const series = curves.flatMap(({ label, points }, i): LineSeriesOption[] => {
    const color = COLOURS[i % COLOURS.length];
    const lineStyle = { color, type: i < COLOURS.length ? 'solid' : 'dashed' } as const;
    const shared: LineSeriesOption = { type: 'line', symbol: 'none', lineStyle, itemStyle: { color } };
    const hidden: LineSeriesOption = { ...shared, lineStyle: { opacity: 0 }, silent: true };
    const wide = points.filter(({ halfWidth }) => Number.isFinite(halfWidth));
    // The band: an invisible line at its lower edge, and its height stacked on top.
    return [
      { ...shared, name: label, data: points.map(({ x, y }) => [x, y]), z: 3 },
      {
        ...hidden,
        stack: `band ${i}`,
        stackStrategy: 'all',
        data: wide.map(({ x, y, halfWidth }) => [x, y - halfWidth]),
      },
      {
        ...{ ...hidden, stack: `band ${i}`, stackStrategy: 'all', areaStyle: { color, opacity: 0.15 } },
        data: wide.map(({ x, halfWidth }) => [x, 2 * halfWidth]),
      },
    ];
  });
  chart.setOption({
    animation: false,
    title: { text: title, left: 'center', textStyle: { fontSize: 14 } },
    legend: { data: curves.map(({ label }) => label), bottom: 0, textStyle: { fontSize: 10 }, itemHeight: 8 },
    grid: { left: 56, right: 20, top: 36, bottom: 138 },
    xAxis: { type: 'value', name: xName, nameLocation: 'middle', nameGap: 24 },
    yAxis: {
      type: 'value',
      name: yName,
      nameLocation: 'middle',
      nameGap: 38,
      ...(range && { min: range[0], max: range[1] }),
    },
    series,
  });
  const svg = chart.renderToSVGString();
  chart.dispose();
  return svg.replace('<svg ', `<svg role="img" aria-label="${title}" `); // our own titles: nothing to escape
}
