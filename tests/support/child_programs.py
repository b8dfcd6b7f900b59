"""Programs that answer `check-rule`, and what it takes to run them."""

import shutil

import pytest

import ref.cli

CROPS_C = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static double number(const char *line, const char *name) {
  return atof(strchr(strstr(line, name), ':') + 1);
}
int main(void) {
  char line[4096];
  while (fgets(line, sizeof line, stdin)) {
    long w = number(line, "width"), h = number(line, "height"), m = number(line, "min_crop");
    long longer = w >= h ? w : h, shorter = w >= h ? h : w, n = 0;
    double ratio = (double)longer / shorter;
    if (ratio ACTIVE number(line, "min_ratio")) {
      n = (long)(ratio + 0.5);
      if (longer / m < n) n = longer / m;
      if (n < 2) n = 2;
      if (n > 4) n = 4;
      if ((longer + n - 1) / n < m || shorter < m) n = 0;
    }
    long step = n ? (longer + n - 1) / n : 0;
    int pad = strstr(line, "pad") != NULL;
    printf("[");
    for (long i = 0; i < n; i++) {
      long a = i * step, b = a + step > longer && !pad ? longer : a + step;
      if (w >= h) printf("%s[0, %ld, %ld, %ld]", i ? ", " : "", a, h, b);
      else printf("%s[%ld, 0, %ld, %ld]", i ? ", " : "", a, b, w);
    }
    puts("]");
    fflush(stdout);
  }
}
"""
VISIBILITY_JS = """
const wider = Number(process.argv[2] || 0);
require("readline").createInterface({ input: process.stdin }).on("line", (line) => {
  const c = JSON.parse(line);
  console.log(JSON.stringify(c.soft.map((soft, t) => {
    const i = c.start + t;
    let start = c.first[t], stop = i + 1;
    if (i < start) return [i, i];
    if (c.window !== null) start = Math.max(start, i - c.window + 1 - wider);
    while (soft && stop < c.keys && c.soft[stop - c.start] && c.first[stop - c.start] === c.first[t]) stop++;
    return [start, stop];
  })));
});
"""
CAUSAL_AWK = """
{ match($0, /"start": [0-9]+/); start = substr($0, RSTART + 9, RLENGTH - 9) + 0
  match($0, /"keys": [0-9]+/); keys = substr($0, RSTART + 8, RLENGTH - 8) + 0
  line = ""
  for (t = start; t < keys; t++) {
    row = ""
    for (k = 0; k < keys; k++) row = row (k <= t ? 1 : 0)
    line = line (t > start ? ", " : "") "\\"" row "\\""
  }
  print "[" line "]"; fflush() }
"""
CROPS_PERL = r"""
$| = 1;
while (<STDIN>) {
  my ($w) = /"width": (\d+)/; my ($h) = /"height": (\d+)/;
  my ($long, $short) = $w >= $h ? ($w, $h) : ($h, $w);
  my $n = 0;
  if (5 * $long >= 6 * $short) {
    $n = int($long / $short + 0.5);
    $n = int($long / 256) if int($long / 256) < $n;
    $n = 2 if $n < 2; $n = 4 if $n > 4;
    $n = 0 if int(($long + $n - 1) / $n) < 256 || $short < 256;
  }
  my $s = $n ? int(($long + $n - 1) / $n) : 0;
  print "[", join(", ", map {
    my ($a, $b) = ($_ * $s, $_ * $s + $s > $long ? $long : $_ * $s + $s);
    $w >= $h ? "[0, $a, $h, $b]" : "[$a, 0, $b, $w]" } 0 .. $n - 1), "]\n";
}
"""


def needs(program):
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"needs {program}")


def check(capsys, *arguments, code):
    assert ref.cli.main(["check-rule", *arguments]) == code
    return capsys.readouterr()


RIGHT = """
from ref.ops.pan_and_scan import crop_boxes
def crops(c):
    return crop_boxes(c["height"], c["width"], c["min_ratio"], c["min_crop"], c["max_crops"], True).tolist()
"""
