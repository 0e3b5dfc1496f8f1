# Three threads call localtime, strftime and mktime, one each; the main thread or a fourth one forks
# children that call all three.
#
#   perl_time.pl main|thread FORKS LIMIT_S MAX_HUNG
#
# Output: see fork_loop.
use strict;
use warnings;
use threads;
use FindBin;
use POSIX ();
require "$FindBin::Bin/../demo/fork_loop.pl";

my $from = shift // '';
die "usage: perl_time.pl main|thread FORKS LIMIT_S MAX_HUNG\n"
    unless @ARGV == 3 && $from =~ /^(main|thread)$/;
$| = 1;

my $moment = 1_000_000_000;
my @fields = localtime($moment);
my $text = POSIX::strftime('%Y-%m-%d %H:%M:%S', @fields);

sub same_localtime { my @now = localtime($moment); return "@now" eq "@fields" }
sub same_strftime { return POSIX::strftime('%Y-%m-%d %H:%M:%S', @fields) eq $text }
sub same_mktime { return POSIX::mktime(@fields) == $moment }
sub all_the_same { return same_localtime() && same_strftime() && same_mktime() }

my @threads = map { busy_threads(1, $_) } \&same_localtime, \&same_strftime, \&same_mktime;
if ($from eq 'main') {
    fork_loop(@ARGV, \&all_the_same);
} else {
    threads->create(sub { fork_loop(@ARGV, \&all_the_same) })->join();
}
end_threads(@threads);
