// Found by its bare name through caller.c's RUNPATH alone.
int private_answer(void) { return 42; }
