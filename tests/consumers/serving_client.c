/* Runs a SavedModel's signature for text through TensorFlow's C API, and holds every answer to a golden one.
 *
 * It loads the version folder as TF Serving does: the C++ loader, no Python, XLA switched off as in a stock server, the
 * operators of TensorFlow Text from shared libraries where the model has any. Then many threads send requests of varying
 * batch sizes to the one session.
 *
 *   serving_client FOLDER CASES THREADS REQUESTS [library=FILE.so]... input=OPERATION:INDEX... output=OPERATION:INDEX...
 *
 *   FOLDER    the version folder, with saved_model.pb
 *   CASES     a text file, one row of the batch a line, with tabs between: the text for each input, then the answer for
 *             each output: its texts with \0 between them, or its numbers with blanks between them, in the order of the
 *             tensor; in a text, \t, \n and \\ stand for tab, line end and backslash. An answer may go on with empty
 *             texts or zeros: what fills it up beside the longest row of all, and is not there beside shorter ones
 *   THREADS   at most 64
 *   REQUESTS  sent by each thread
 *
 * Prints one line of JSON: requests and rows that were answered, seconds, and resident memory in bytes from the loaded
 * model to the last request. Ends with 1 and one line on standard error at the first failure or other answer.
 *
 * gcc -std=gnu11 -I$T/include serving_client.c $T/libtensorflow_cc.so.2 $T/libtensorflow_framework.so.2 -Wl,-rpath,$T
 */
#define _GNU_SOURCE /* RTLD_DEFAULT */
#include <dlfcn.h>
#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <tensorflow/c/c_api.h>
#include <tensorflow/c/tf_tstring.h>

enum { MAX_THREADS = 64, MAX_ROWS = 256, MAX_COLUMNS = 8, MEMORY_SAMPLES = 50 };

/* Another batch size sums in another order: 1e-3 of a score in nats, as in the export's own proof. */
static const double TOLERANCE = 1e-3;

/* Texts, each ended by a zero byte, or a text of numbers. */
struct cell {
  char *text;
  char *end; /* behind the last zero byte */
};

static struct cell cells[MAX_ROWS][MAX_COLUMNS]; /* inputs, then expected outputs */
static int num_rows, num_inputs, num_outputs, num_requests;
static TF_Output inputs[MAX_COLUMNS], outputs[MAX_COLUMNS];
static TF_Session *session;
static atomic_long done_requests, done_rows;

static void fail(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  fputc('\n', stderr);
  exit(1);
}

static void check(const char *what, TF_Status *status) {
  if (TF_GetCode(status) != TF_OK) fail("%s: %s", what, TF_Message(status));
}

/* ---- golden answers ---- */

static struct cell unescape(char *text) {
  char *to = text;
  for (const char *from = text; *from; from++) {
    if (*from != '\\') *to++ = *from;
    else if (*++from == 't') *to++ = '\t';
    else if (*from == 'n') *to++ = '\n';
    else *to++ = *from == '0' ? '\0' : *from;
  }
  *to = '\0';
  return (struct cell){text, to + 1};
}

static void read_cases(const char *path) {
  FILE *file = fopen(path, "r");
  if (!file) fail("%s cannot be read", path);
  char *line = NULL;
  size_t capacity = 0;
  ssize_t length;
  while ((length = getline(&line, &capacity, file)) > 0) {
    if (num_rows == MAX_ROWS) fail("%s has more than %d rows", path, MAX_ROWS);
    if (line[length - 1] == '\n') line[length - 1] = '\0';
    char *rest = strdup(line);
    for (int column = 0; column < num_inputs + num_outputs; column++) {
      char *text = strsep(&rest, "\t"); /* unlike strtok, keeps empty cells: an empty text is a case */
      if (!text) fail("%s, row %d: fewer than %d columns", path, num_rows, column + 1);
      cells[num_rows][column] = unescape(text);
    }
    if (rest) fail("%s, row %d: too many columns", path, num_rows);
    num_rows++;
  }
  free(line);
  fclose(file);
  if (!num_rows) fail("%s is empty", path);
}

/* ---- tensors ---- */

/* A request asks for `count` rows from `first` on, beginning anew behind the last. */
static struct cell cell(int first, int row, int column) { return cells[(first + row) % num_rows][column]; }

static void free_strings(void *data, size_t length, void *unused) {
  (void)unused;
  TF_TString *strings = data;
  for (size_t i = 0; i < length / sizeof *strings; i++) TF_TString_Dealloc(&strings[i]);
  free(data);
}

static TF_Tensor *make_strings(int first, int count, int column) {
  TF_TString *strings = malloc(count * sizeof *strings);
  for (int row = 0; row < count; row++) {
    const char *text = cell(first, row, column).text;
    TF_TString_Init(&strings[row]);
    TF_TString_Copy(&strings[row], text, strlen(text));
  }
  const int64_t shape[] = {count};
  return TF_NewTensor(TF_STRING, shape, 1, strings, count * sizeof *strings, free_strings, NULL);
}

static void check_strings(const TF_Tensor *tensor, int first, int count, int column) {
  const TF_TString *strings = TF_TensorData(tensor);
  int64_t per_row = TF_TensorElementCount(tensor) / count;
  for (int row = 0; row < count; row++) {
    struct cell expected = cell(first, row, column);
    const char *asked = cell(first, row, 0).text;
    for (int64_t i = 0; i < per_row; i++, strings++, expected.text += strlen(expected.text) + 1) {
      if (expected.text == expected.end) fail("'%s': more than the %ld texts that are known", asked, (long)i);
      size_t length = TF_TString_GetSize(strings);
      const char *found = TF_TString_GetDataPointer(strings);
      if (length != strlen(expected.text) || memcmp(found, expected.text, length))
        fail("'%s' is answered with '%.*s' instead of '%s'", asked, (int)length, found, expected.text);
    }
    while (expected.text < expected.end)
      if (*expected.text++) fail("'%s': '%s' is missing", asked, expected.text - 1);
  }
}

static double number(const TF_Tensor *tensor, int64_t index) {
  const void *data = TF_TensorData(tensor);
  return TF_TensorType(tensor) == TF_FLOAT ? ((const float *)data)[index] : ((const int32_t *)data)[index];
}

static void check_numbers(const TF_Tensor *tensor, int first, int count, int column) {
  double tolerance = TF_TensorType(tensor) == TF_FLOAT ? TOLERANCE : 0;
  int64_t index = 0, per_row = TF_TensorElementCount(tensor) / count;
  for (int row = 0; row < count; row++) {
    char *expected = cell(first, row, column).text, *end;
    const char *asked = cell(first, row, 0).text, *all = expected;
    for (int64_t i = 0; i < per_row; i++, index++) {
      double found = number(tensor, index), value = strtod(expected, &end);
      /* Negated, so that a NaN fails too. */
      if (end == expected || !(fabs(found - value) <= tolerance)) fail("'%s': %.9g instead of '%s'", asked, found, all);
      expected = end;
    }
    while (strtod(expected, &end) == 0 && end != expected) expected = end;
    if (*expected) fail("'%s': fewer numbers than '%s'", asked, all);
  }
}

static void check_output(const TF_Tensor *tensor, int first, int count, int column) {
  if (TF_NumDims(tensor) < 1 || TF_Dim(tensor, 0) != count) fail("output %d does not have %d rows", column, count);
  if (TF_TensorType(tensor) == TF_STRING)
    check_strings(tensor, first, count, column);
  else if (TF_TensorType(tensor) == TF_FLOAT || TF_TensorType(tensor) == TF_INT32)
    check_numbers(tensor, first, count, column);
  else
    fail("output %d is neither text, float32 nor int32", column);
}

/* ---- requests ---- */

static void send_request(int first, int count) {
  TF_Status *status = TF_NewStatus();
  TF_Tensor *asked[MAX_COLUMNS], *answered[MAX_COLUMNS] = {NULL};
  for (int i = 0; i < num_inputs; i++) asked[i] = make_strings(first, count, i);
  TF_SessionRun(session, NULL, inputs, asked, num_inputs, outputs, answered, num_outputs, NULL, 0, NULL, status);
  check("request", status);
  for (int i = 0; i < num_outputs; i++) check_output(answered[i], first, count, num_inputs + i);
  for (int i = 0; i < num_inputs; i++) TF_DeleteTensor(asked[i]);
  for (int i = 0; i < num_outputs; i++) TF_DeleteTensor(answered[i]);
  TF_DeleteStatus(status);
  atomic_fetch_add(&done_rows, count);
  atomic_fetch_add(&done_requests, 1);
}

static void *client(void *argument) {
  int thread = *(int *)argument;
  /* Every batch size from 1 to all rows, and every first row, in an order of the thread's own. */
  for (int i = 0; i < num_requests; i++) send_request((7 * thread + i) % num_rows, 1 + (thread + i) % num_rows);
  return NULL;
}

/* ---- the model ---- */

static void load_library(const char *path) {
  TF_Status *status = TF_NewStatus();
  TF_LoadLibrary(path, status); /* stays loaded until the process ends */
  check(path, status);
  TF_DeleteStatus(status);
}

static void disable_xla(void) {
  /* A stock server is built without XLA. The C API has no switch for that; this is the one inside TensorFlow. */
  void (*disable)(void) = (void (*)(void))dlsym(RTLD_DEFAULT, "_ZN10tensorflow21DisableXlaCompilationEv");
  if (!disable) fail("this TensorFlow has no DisableXlaCompilation");
  disable();
}

static TF_Graph *load_model(const char *folder) {
  TF_Status *status = TF_NewStatus();
  TF_SessionOptions *options = TF_NewSessionOptions();
  TF_Graph *graph = TF_NewGraph();
  const char *tags[] = {"serve"};
  session = TF_LoadSessionFromSavedModel(options, NULL, folder, tags, 1, graph, NULL, status);
  check(folder, status);
  TF_DeleteSessionOptions(options);
  TF_DeleteStatus(status);
  return graph;
}

static TF_Output find_tensor(TF_Graph *graph, const char *name) {
  char operation[256];
  const char *colon = strrchr(name, ':');
  if (!colon || colon - name >= (long)sizeof operation) fail("'%s' is no OPERATION:INDEX", name);
  snprintf(operation, sizeof operation, "%.*s", (int)(colon - name), name);
  TF_Output tensor = {TF_GraphOperationByName(graph, operation), atoi(colon + 1)};
  if (!tensor.oper) fail("the graph has no operation '%s'", operation);
  return tensor;
}

static long resident_bytes(void) {
  long size, resident;
  FILE *file = fopen("/proc/self/statm", "r");
  if (!file || fscanf(file, "%ld %ld", &size, &resident) != 2) fail("/proc/self/statm cannot be read");
  fclose(file);
  return resident * sysconf(_SC_PAGESIZE);
}

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec + now.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
  if (argc < 7) fail("usage: %s FOLDER CASES THREADS REQUESTS [library=FILE]... input=TENSOR... output=TENSOR...", argv[0]);
  const char *input_names[MAX_COLUMNS], *output_names[MAX_COLUMNS];
  int num_threads = atoi(argv[3]);
  num_requests = atoi(argv[4]);
  if (num_threads < 1 || num_threads > MAX_THREADS) fail("THREADS must be 1 to %d", MAX_THREADS);
  for (int i = 5; i < argc; i++) {
    if (num_inputs + num_outputs == MAX_COLUMNS) fail("more than %d tensors", MAX_COLUMNS);
    if (!strncmp(argv[i], "library=", 8))
      load_library(argv[i] + 8);
    else if (!strncmp(argv[i], "input=", 6))
      input_names[num_inputs++] = argv[i] + 6;
    else if (!strncmp(argv[i], "output=", 7))
      output_names[num_outputs++] = argv[i] + 7;
    else
      fail("'%s' is no argument", argv[i]);
  }
  read_cases(argv[2]);
  disable_xla();
  TF_Graph *graph = load_model(argv[1]);
  for (int i = 0; i < num_inputs; i++) inputs[i] = find_tensor(graph, input_names[i]);
  for (int i = 0; i < num_outputs; i++) outputs[i] = find_tensor(graph, output_names[i]);
  send_request(0, num_rows); /* the first request prepares the graph */
  atomic_store(&done_requests, 0);
  atomic_store(&done_rows, 0);

  pthread_t threads[MAX_THREADS];
  int numbers[MAX_THREADS];
  long memory[MEMORY_SAMPLES + 1], total = (long)num_threads * num_requests;
  int num_samples = 0;
  double start = seconds();
  for (int i = 0; i < num_threads; i++) {
    numbers[i] = i;
    pthread_create(&threads[i], NULL, client, &numbers[i]);
  }
  /* A sample each time that another fiftieth of the requests is done. */
  while (atomic_load(&done_requests) < total) {
    if (atomic_load(&done_requests) * MEMORY_SAMPLES >= num_samples * total) memory[num_samples++] = resident_bytes();
    usleep(1000);
  }
  for (int i = 0; i < num_threads; i++) pthread_join(threads[i], NULL);
  double duration = seconds() - start;
  memory[num_samples++] = resident_bytes();

  printf("{\"requests\": %ld, \"rows\": %ld, \"seconds\": %.3f, \"resident_bytes\": [", atomic_load(&done_requests),
         atomic_load(&done_rows), duration);
  for (int i = 0; i < num_samples; i++) printf("%s%ld", i ? ", " : "", memory[i]);
  puts("]}");
  TF_Status *status = TF_NewStatus();
  TF_CloseSession(session, status);
  TF_DeleteSession(session, status);
  TF_DeleteGraph(graph);
  TF_DeleteStatus(status);
  return 0;
}
