/* Record what a list says: `record_all LIST VALUES FOLDER`. Each line of LIST is a pass or a value; VALUES has its bytes. */

#include "gemma3_record.h"

static int64_t number(FILE *file) {
  long long read = 0;
  if (fscanf(file, "%lld", &read) != 1) exit(3);
  return read;
}

int main(int count, char **given) {
  static g3_recorder rec;
  static char values[1 << 22];
  static int32_t ids[4096];
  char word[16], name[256], kind[16], layout[64];
  int64_t shape[16];
  FILE *list = fopen(given[1], "r"), *bytes = fopen(given[2], "rb");
  if (count != 4 || !list || !bytes) return 3;
  g3_open(&rec, given[3], "tiny");
  while (fscanf(list, "%15s", word) == 1) {
    int i, axes = 0, dtype = 0;
    int64_t size;
    if (strcmp(word, "value")) { /* prompt or step: their ids */
      int tokens = (int)number(list);
      for (i = 0; i < tokens; i++) ids[i] = (int32_t)number(list);
      if (strcmp(word, "step")) g3_prompt(&rec, ids, tokens);
      else g3_step(&rec, ids, tokens);
      memset(ids, 255, sizeof ids);
      continue;
    }
    if (fscanf(list, "%255s %15s", name, kind) != 2) return 3;
    axes = (int)number(list);
    for (i = 0; i < axes; i++) shape[i] = number(list);
    if (fscanf(list, " |%63[^\n]", layout) != 1) layout[0] = 0;
    while (strcmp(g3_dtypes[dtype].name, kind)) dtype++;
    size = g3_dtypes[dtype].bytes;
    for (i = 0; i < axes; i++) size *= shape[i];
    if (size > (int64_t)sizeof values || fread(values, 1, (size_t)size, bytes) != (size_t)size) return 3;
    g3_record(&rec, name, layout, (g3_dtype)dtype, values, shape, axes);
    memset(values, 255, (size_t)size); /* what has been given may be written over */
  }
  if (g3_close(&rec)) {
    fprintf(stderr, "%s\n", rec.error);
    return 1;
  }
  return 0;
}
