/* A library whose destructor runs late in exit: after those of whatever was preloaded. */
void (*fini_calls)(void);

__attribute__((destructor)) static void fini(void) {
    if (fini_calls) {
        fini_calls();
    }
}
