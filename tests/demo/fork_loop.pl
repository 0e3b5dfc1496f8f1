# Perl threads that keep busy, and a loop that forks among them. Loaded with `require`.
use strict;
use warnings;
use threads;
use POSIX ();
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

# Starts $count threads that call $work again and again, and returns them once each has done so.
sub busy_threads {
    my ($count, $work) = @_;
    pipe(my $ready, my $started) or die "pipe: $!\n";
    my @threads = map {
        threads->create(sub {
            local $SIG{KILL} = sub { threads->exit() };    # one of perl's own
            $work->();
            syswrite($started, '.');
            $work->() while 1;
        });
    } 1 .. $count;
    for (1 .. $count) {
        sysread($ready, my $byte, 1) or die "a thread did not start\n";
    }
    return @threads;
}

sub end_threads {
    $_->kill('KILL')->join() for @_;
}

# True when the child, which holds the other end of the pipe $end, is gone in $limit seconds.
sub ends_in_time {
    my ($end, $limit) = @_;
    my $until = clock_gettime(CLOCK_MONOTONIC) + $limit;
    while ((my $left = $until - clock_gettime(CLOCK_MONOTONIC)) > 0) {
        my $readable = '';
        vec($readable, fileno($end), 1) = 1;
        return 1 if select($readable, undef, undef, $left) > 0;
    }
    return 0;
}

# Forks $forks times a child that calls $child and exits: 0, or 1 where $child died or returned
# false. A child that is not gone in $limit seconds is hung: it is killed and counted, and the loop
# ends early after $max_hung of them. Prints now and then "progress FORKS HUNG", and at last
# "result forks=N hung=N failed=N mean_us=X median_us=X": the times are those of the call of fork.
sub fork_loop {
    my ($forks, $limit, $max_hung, $child) = @_;
    my ($hung, $failed, $shown, @us) = (0, 0, 0);
    while (@us < $forks && $hung < $max_hung) {
        pipe(my $end, my $held) or die "pipe: $!\n";
        my $start = clock_gettime(CLOCK_MONOTONIC);
        my $pid = fork();
        if (defined $pid && $pid == 0) {
            my $ok = eval { $child->() };
            POSIX::_exit($ok ? 0 : 1);
        }
        my $now = clock_gettime(CLOCK_MONOTONIC);
        die "fork: $!\n" unless defined $pid;
        push @us, ($now - $start) * 1e6;
        close($held);
        if (ends_in_time($end, $limit)) {
            waitpid($pid, 0);
            $failed++ if $? != 0;
        } else {
            kill('KILL', $pid);
            waitpid($pid, 0);
            $hung++;
        }
        if ($now - $shown > 0.2) {
            print "progress ", scalar(@us), " $hung\n";
            $shown = $now;
        }
    }
    my $sum = 0;
    $sum += $_ for @us;
    my @sorted = sort { $a <=> $b } @us;
    printf "result forks=%d hung=%d failed=%d mean_us=%.1f median_us=%.1f\n",
        scalar(@us), $hung, $failed, $sum / @us, $sorted[@sorted / 2];
    return $hung == 0 && $failed == 0;
}

1;
