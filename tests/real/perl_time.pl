# Threads call localtime, strftime, mktime, tzset, setlocale, gethostbyname and getpwnam, one each; the
# main thread or another one forks children that call them all.
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
sub does_tzset { POSIX::tzset(); return 1 }
sub does_setlocale { return defined POSIX::setlocale(POSIX::LC_ALL(), 'C') }
sub does_gethostbyname { return defined gethostbyname('127.0.0.1') }
sub does_getpwnam { return (getpwnam('root'))[2] == 0 }
my @calls = (\&same_localtime, \&same_strftime, \&same_mktime, \&does_tzset, \&does_setlocale,
    \&does_gethostbyname, \&does_getpwnam);
sub all_the_same { $_->() or return 0 for @calls; return 1 }

my @threads = map { busy_threads(1, $_) } @calls;
if ($from eq 'main') {
    fork_loop(@ARGV, \&all_the_same);
} else {
    threads->create(sub { fork_loop(@ARGV, \&all_the_same) })->join();
}
end_threads(@threads);
