#!/usr/bin/perl
# Three threads call localtime, the main thread forks, and its children call localtime as well.
#
#   localtime.pl FORKS LIMIT_S MAX_HUNG
#
# perl guards the call with a mutex of its own. A fork in the middle of another thread's call leaves
# it locked in the child for ever. Output: see fork_loop.
use strict;
use warnings;
use threads;
use FindBin;
require "$FindBin::Bin/fork_loop.pl";

die "usage: localtime.pl FORKS LIMIT_S MAX_HUNG\n" unless @ARGV == 3;
$| = 1;

my @threads = busy_threads(3, sub { my @fields = localtime });
fork_loop(@ARGV, sub { my @fields = localtime; return @fields == 9 });
end_threads(@threads);
