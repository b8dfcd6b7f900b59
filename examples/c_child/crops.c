/* Pan & Scan's crops in C, as a child process of `gemma3-ref check-rule crops`: a case per line in, an answer per line out. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static long number(const char *line, const char *name) { return atol(strchr(strstr(line, name), ':') + 1); }

static int count_crops(long longer, long shorter, long min_crop, long max_crops) {
  if (5 * longer < 6 * shorter) return 0; /* longer / shorter < 1.2, in integers */
  long count = (2 * longer + shorter) / (2 * shorter); /* the ratio, rounded half up */
  if (count > longer / min_crop) count = longer / min_crop;
  if (count < 2) count = 2;
  if (count > max_crops) count = max_crops;
  return (longer + count - 1) / count < min_crop || shorter < min_crop ? 0 : (int)count;
}

int main(void) {
  char line[4096];
  while (fgets(line, sizeof line, stdin)) {
    long width = number(line, "\"width\""), height = number(line, "\"height\"");
    long longer = width >= height ? width : height, shorter = width >= height ? height : width;
    int count = count_crops(longer, shorter, number(line, "\"min_crop\""), number(line, "\"max_crops\""));
    long side = count ? (longer + count - 1) / count : 0;
    printf("[");
    for (int i = 0; i < count; i++) {
      long from = i * side, to = from + side < longer ? from + side : longer; /* the last crop ends with the image */
      if (width >= height) printf("%s[0, %ld, %ld, %ld]", i ? ", " : "", from, height, to);
      else printf("%s[%ld, 0, %ld, %ld]", i ? ", " : "", from, to, width);
    }
    puts("]");
    fflush(stdout); /* the answer must be out before the next case is read */
  }
}
