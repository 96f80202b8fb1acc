/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* report_html.c - how a report's text, numbers and colours are written. */
#include <inttypes.h>
#include <string.h>

#include "report.h"

/* Guest code, device names and command lines come from files that anybody may have written. */
void html_text(FILE *out, const char *text)
{
	for (; *text; text++) {
		switch (*text) {
		case '&':
			fputs("&amp;", out);
			break;
		case '<':
			fputs("&lt;", out);
			break;
		case '>':
			fputs("&gt;", out);
			break;
		case '"':
			fputs("&quot;", out);
			break;
		default:
			fputc(*text, out);
			break;
		}
	}
}

#define BUFFER 40

static char *buffer(void)
{
	static char ring[16][BUFFER];
	static unsigned next;

	return ring[next++ % 16];
}

const char *html_count(uint64_t number)
{
	char digits[24], *text = buffer();
	int length = snprintf(digits, sizeof(digits), "%" PRIu64, number), at = 0;

	for (int i = 0; i < length; i++) {
		if (i && (length - i) % 3 == 0)
			text[at++] = ',';
		text[at++] = digits[i];
	}
	text[at] = 0;
	return text;
}

const char *html_time(double ns)
{
	static const struct {
		double least, unit;
		const char *format;
	} forms[] = {{1e9, 1e9, "%.2f s"},  {1e7, 1e6, "%.1f ms"}, {1e6, 1e6, "%.2f ms"},
		     {1e4, 1e3, "%.1f us"}, {1e3, 1e3, "%.2f us"}, {0, 1, "%.0f ns"}};
	double size = ns < 0 ? -ns : ns;
	char *text = buffer();
	unsigned i = 0;

	while (size < forms[i].least)
		i++;
	/* NOLINTNEXTLINE(clang-diagnostic-format-nonliteral): the list above has no others */
	snprintf(text, BUFFER, forms[i].format, ns / forms[i].unit);
	return text;
}

const char *html_percent(uint64_t part, uint64_t whole)
{
	char *text = buffer();

	snprintf(text, BUFFER, "%.1f%%", whole ? 100.0 * (double)part / (double)whole : 0.0);
	return text;
}

const char report_style[] =
    ":root{color-scheme:light dark;--page:#fbfbf9;--text:#1d2226;--faint:#5b6570;--line:#d9dcd6;"
    "--box:#fff;--without:#c2703d;--with:#17787a;--avoided:#a9cfc8;--mark:#fff1cc}"
    "@media(prefers-color-scheme:dark){:root{--page:#14181b;--text:#e6e9e6;--faint:#9aa5ad;"
    "--line:#333b41;--box:#1b2125;--without:#e2965f;--with:#45b8b0;--avoided:#2a5753;"
    "--mark:#4a3d12}}"
    "*{box-sizing:border-box}"
    "body{margin:0;background:var(--page);color:var(--text);font:16px/1.5 system-ui,sans-serif}"
    "main{max-width:58rem;margin:0 auto;padding:1.2rem 1rem 3rem}"
    "h1{font-size:1.05rem;margin:0 0 .6rem;color:var(--faint);font-weight:600}"
    "h2{font-size:1.15rem;margin:2.2rem 0 .5rem}"
    "p{margin:.4rem 0}.gain{font-size:1.5rem;line-height:1.3;margin:.2rem 0 .8rem;font-weight:600}"
    ".note{color:var(--faint);font-size:.9rem}"
    ".command{font:.8rem/1.4 ui-monospace,monospace;color:var(--faint);overflow-wrap:anywhere}"
    ".key{display:flex;flex-wrap:wrap;gap:.2rem 1.2rem;font-size:.9rem;margin:.4rem 0}"
    ".key i{display:inline-block;width:.8rem;height:.8rem;border-radius:2px;margin-right:.4rem}"
    ".without{background:var(--without)}.with{background:var(--with)}"
    ".avoided{background:var(--avoided)}"
    ".bars{display:grid;grid-template-columns:minmax(0,min(13rem,34%)) minmax(0,1fr);gap:.45rem "
    ".8rem}"
    ".bars>span{font-size:.9rem;line-height:1.25;align-self:center;overflow-wrap:anywhere}"
    ".bar{display:flex;align-items:center;gap:.4rem;font-size:.8rem;line-height:1.15}"
    ".bar i{display:block;height:.7rem;min-width:1px;border-radius:2px;flex:none}"
    ".bar b{font-weight:500;white-space:nowrap;font-variant-numeric:tabular-nums}"
    ".box{background:var(--box);border:1px solid var(--line);border-radius:6px;padding:.8rem}"
    "svg{display:block;width:100%;height:12rem}"
    "svg polyline{fill:none;stroke-width:2;vector-effect:non-scaling-stroke}"
    ".axis{display:flex;justify-content:space-between;color:var(--faint);font-size:.8rem}"
    ".columns{display:flex;align-items:flex-end;gap:2px;height:11rem}"
    ".columns div{flex:1;display:flex;flex-direction:column;justify-content:flex-end;height:100%;"
    "text-align:center;font-size:.7rem;min-width:0}"
    ".columns i{display:block;background:var(--with);border-radius:2px 2px 0 0;min-height:1px}"
    ".columns small{color:var(--faint);font-size:.6rem;white-space:nowrap}"
    "table{border-collapse:collapse;width:100%;font-size:.92rem}"
    "td,th{text-align:left;padding:.3rem .5rem .3rem 0;border-bottom:1px solid var(--line);"
    "vertical-align:top;font-weight:400}"
    "td.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums;padding-right:1rem;"
    "width:1%}"
    "details{border:1px solid var(--line);border-radius:6px;margin:.5rem 0;background:var(--box)}"
    "summary{cursor:pointer;padding:.5rem .8rem;font-size:.92rem}"
    "pre{margin:0;padding:.5rem .8rem;overflow-x:auto;font:.78rem/1.45 ui-monospace,monospace;"
    "border-top:1px solid var(--line);max-height:32rem;overflow-y:auto}"
    "pre b{font-weight:600;background:var(--mark)}pre u{text-decoration:none;color:var(--faint)}"
    "@media print{details{break-inside:avoid}}";
