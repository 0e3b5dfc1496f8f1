#include <check.h>

TCase *signals_tests(void);
