# What containers with `appArmorProfile: {type: RuntimeDefault}` may do: the rules of containerd's and Docker's default
# profiles. Mounts, and writing where the kernel is configured, are refused even to root with every capability.
profile runp-default flags=(attach_disconnected,mediate_deleted) {
  network,
  capability,
  file,
  umount,
  unix,

  # The supervisor and `runp exec` are not confined; a pod's containers may see and signal each other.
  signal (receive) peer=unconfined,
  signal (send,receive) peer=runp-default,
  ptrace (trace,read,tracedby,readby) peer=runp-default,

  # Of procfs only what belongs to processes is written to, and of its sysctls only those of System V IPC.
  deny /proc/* w,
  deny /proc/{[^1-9],[^1-9][^0-9],[^1-9s][^0-9y][^0-9s],[^1-9][^0-9][^0-9][^0-9]*}/** w,
  deny /proc/sys/[^k]** w,
  deny /proc/sys/kernel/{?,??,[^s][^h][^m]**} w,
  deny /proc/sysrq-trigger rwklx,
  deny /proc/mem rwklx,
  deny /proc/kmem rwklx,
  deny /proc/kcore rwklx,

  deny mount,

  # Of sysfs only cgroups.
  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,
}
