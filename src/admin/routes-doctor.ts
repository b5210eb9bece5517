// SPDX-License-Identifier: Apache-2.0
import { type DoctorRequest, doctorReportSchema, doctorRequestSchema } from './api-doctor.js';
import type { AdminRoute } from './route.js';

export function doctorRoutes(): AdminRoute[] {
  return [
    {
      method: 'POST',
      url: '/v1/doctor',
      role: 'operate',
      operationId: 'doctor',
      summary: 'Looks at all that stands between this host and a customer key; changes nothing',
      body: doctorRequestSchema,
      status: 200,
      answer: doctorReportSchema,
      call: (services, { body, caller }) => services.doctor(body as DoctorRequest, caller),
    },
  ];
}
